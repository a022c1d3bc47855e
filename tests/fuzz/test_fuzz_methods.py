"""Methods as words, composed or not, with options."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from junk import objects, texts
from oracle import command, examples, works

from offramp.methods import METHODS, method

known = st.sampled_from([*METHODS])
names = st.one_of(
    known,
    st.lists(known, min_size=2, max_size=4).map("+".join),
    st.lists(st.one_of(known, texts), min_size=1, max_size=3).map("+".join),
    st.builds(lambda name, n: "+".join([name] * n), known, st.integers(2, 900)),
    texts,
)
ALL = sorted({key for row in METHODS.values() for key in row.options})
likely = st.sampled_from([*{str(v): v for row in METHODS.values() for v in row.options.values()}.values()])
qualified = st.builds("{}.{}".format, known, st.sampled_from(ALL))
options = st.dictionaries(
    st.one_of(st.sampled_from(ALL), qualified, texts), st.one_of(objects, likely, likely), max_size=3
)


def told(name, chosen):
    """A method that is accepted can be noted, and made again of what it says."""
    found = method(name, chosen)
    stored = json.loads(json.dumps(found.options, allow_nan=False))
    assert json.loads(json.dumps(method(found.name, found.options).options)) == stored


@examples(75)
@given(st.one_of(names, objects), st.one_of(options, objects))
def test_anything(name, chosen):
    works(told, name, chosen)


@examples(100)
@given(st.data())
def test_options_that_the_method_has(data):
    row = METHODS[data.draw(known)]
    chosen = data.draw(
        st.dictionaries(st.sampled_from([*row.options]), st.one_of(objects, likely), max_size=2)
    )
    works(told, row.name, chosen)


@examples(25)
@given(names)
def test_on_the_command_line(name):
    """A data set that is not there ends it where the words are right."""
    command("train", "--data", "./nowhere", "--net", "vgg7:width=2", "--method", name, "--out", "nowhere")
