import pynauty

from hammers.scenario import Scenario


class Graph(pynauty.Graph):
    """With attributes where pynauty has properties, in Python: while they run a GIL can change hands, and the
    extension has just put its graph into a C global, for a function that nauty calls. So two threads crash it
    with any GIL."""

    adjacency_dict = vertex_coloring = None

    def __init__(self, vertices):
        super().__init__(vertices)
        self.adjacency_dict, self.vertex_coloring = self._adjacency_dict, []


def circulant(vertices, *steps):
    """Each vertex with those that are so many steps further on."""
    graph = Graph(vertices)
    for i in range(vertices):
        graph.connect_vertex(i, [(i + step) % vertices for step in steps])
    return graph


class Separate(Scenario):
    """Certificates and automorphism groups of each thread's own graphs, as one thread alone computes them."""

    KINDS = ((8, 1), (12, 1, 2), (15, 1, 4), (20, 1, 5), (24, 1, 3, 7))

    def prepare(self):
        self.graphs, self.expected = [None] * self.threads, [None] * self.threads
        self.alone = self.answers([circulant(*kind) for kind in self.KINDS])

    def answers(self, graphs):
        return [(pynauty.certificate(graph), pynauty.autgrp(graph)) for graph in graphs]

    def begin(self, me):
        self.graphs[me] = [circulant(*kind) for kind in self.KINDS]
        self.expected[me] = self.answers(self.graphs[me])
        assert self.expected[me] == self.alone

    def step(self, me, random):
        i = random.randrange(len(self.KINDS))
        graph = self.graphs[me][i]
        certificate, group = self.expected[me][i]
        assert pynauty.certificate(graph) == certificate
        assert pynauty.autgrp(graph) == group


class Shared(Separate, Scenario):
    """The same graphs for all threads."""

    def prepare(self):
        super().prepare()
        super().begin(0)

    def begin(self, me):
        pass

    def step(self, me, random):
        super().step(0, random)
