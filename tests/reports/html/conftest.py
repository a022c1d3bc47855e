"""What a page says, read back from its HTML by the standard library's parser."""

import json
from html.parser import HTMLParser

import pytest


class Read(HTMLParser):
    """The tables, addresses, scripts and text of a page."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tables, self.addresses, self.tags, self.text = [], [], [], ""
        self.scripts, self.attributes = [], []
        self._cell = self._script = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.addresses += [
            value for name, value in attrs if name in ("src", "href", "srcset", "action", "poster", "data")
        ]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ""
        elif tag in ("script", "style"):
            self._script = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self._cell)
            self._cell = None
        elif tag in ("script", "style"):
            self.scripts.append(self._script)
            self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self._script += data
        elif self._cell is not None:
            self._cell += data
        else:
            self.text += data

    @property
    def data(self):
        """The JSON that the page's script reads."""
        return next(json.loads(script) for script in self.scripts if script.startswith('{"config"'))


@pytest.fixture
def read():
    return Read


@pytest.fixture
def unfinished(make_run):
    """Writes the folder of a run without a result."""

    def make(name, lines, **rest):
        folder = make_run(name, **rest)
        (folder / "result.json").unlink()
        (folder / "metrics.csv").write_text("\n".join([*lines, ""]))
        return folder

    return make
