import mwparserfromhell
from mwparserfromhell.parser import _tokenizer

from hammers.scenario import Scenario

# No entities: it frees their buffers by the wrong function, which ends 3.13t with one thread, too.
TEXT = """== Heading ==
{{template|one|key={{nested|'''bold'''}}}} and [[link|text]] in ''italics''
* item [http://example.org site]
{| class="wide"
|-
| cell || <b>tag</b>
|}
<!-- comment --> end
"""


class Parsed(Scenario):
    """Wikicode of all threads: what is parsed prints as it was, and has the same templates."""

    def prepare(self):
        self.text = TEXT

    def step(self, me, random):
        code = mwparserfromhell.parse(self.text)
        assert str(code) == self.text
        assert [str(each.name) for each in code.filter_templates()] == ["template", "nested"]


class Separate(Scenario):
    """A tokenizer for each thread."""

    def prepare(self):
        self.tokenizers = [None] * self.threads
        self.count = len(_tokenizer.CTokenizer().tokenize(TEXT))

    def begin(self, me):
        self.tokenizers[me] = _tokenizer.CTokenizer()

    def step(self, me, random):
        assert len(self.tokenizers[me].tokenize(TEXT)) == self.count
