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
        self.own = [None] * self.threads

    def begin(self, me):
        tokenizer = _tokenizer.CTokenizer()
        self.own[me] = tokenizer, len(tokenizer.tokenize(TEXT))

    def step(self, me, random):
        tokenizer, count = self.own[me]
        assert len(tokenizer.tokenize(TEXT)) == count
