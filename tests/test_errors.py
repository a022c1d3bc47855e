"""What a message shows of a value: short, and in finite time, whatever the value."""

import pickle
import re
from collections import OrderedDict, UserDict
from pathlib import Path
from types import MappingProxyType

import pytest

from offramp.cli._guard import guarded
from offramp.errors import UserError, guess, shown


class Broken(list):
    def __len__(self):
        raise RuntimeError("no length")


class Mute:
    def __repr__(self):
        raise ValueError("nothing to say")


def bomb(outside=list):
    """Nested so that its full text has 9 ** 30 items."""
    value = ["lol"]
    for _ in range(30):
        value = [value] * 9
    return outside(value)


def ring():
    value = {}
    value["itself"] = [value]
    return value


ENDLESS = {
    "lists in lists": bomb(),
    "tuples in tuples": bomb(tuple),
    "in a mapping": {"a": bomb(), "b": bomb()},
    "in a mapping of another class": OrderedDict(a=bomb()),
    "in a mapping of the user's": UserDict(a=bomb()),
    "in a view of a mapping": MappingProxyType({"a": bomb()}),
    "contains itself": ring(),
    "a long text": "ab" * 10_000_000,
    "a path": Path("a" * 100_000),
    "bytes": b"\0" * 10_000_000,
    "an integer Python does not write out": 10**5000,
    "such an integer inside": [{"a": -(10**5000)}],
    "many items": list(range(1_000_000)),
    "many keys": {i: i for i in range(100_000)},
    "a set": set(range(100_000)),
    "without length": Broken(),
    "without text": Mute(),
    "without text inside": [Mute()],
}


@pytest.mark.parametrize("name", ENDLESS)
def test_no_value_is_shown_at_length(name):
    value = ENDLESS[name]
    text = shown(value)
    assert 0 < len(text) <= 200 and text.isprintable()
    assert len(shown(value, limit=40)) <= 40


@pytest.mark.parametrize(
    "value",
    [
        "a word",
        "it's",
        "a  b",
        "",
        0,
        -1.5,
        True,
        None,
        [1, [2, [3]]],
        (1,),
        (),
        {"b": 1, "a": {"c": []}},
        {},
        set(),
        frozenset({3}),
        b"ab",
        "a\x00\n\x1b[31m\ud800",
        10**100,
    ],
)
def test_a_short_value_is_shown_as_python_writes_it(value):
    assert shown(value) == repr(value)


def test_a_path_is_shown_as_text():
    assert shown(Path("runs/a")) == "'runs/a'"


def test_begin_and_end_of_a_long_text_are_shown():
    assert re.fullmatch(r"'a{90,}\.\.\.b{90,}'", shown("a" * 5000 + "b" * 5000))


def test_what_python_writes_in_several_lines_is_shown_in_one():
    class Table:
        def __repr__(self):
            return "one\n  two"

    assert shown(Table()) == "one two"


def test_a_guess_is_of_short_words_only():
    assert guess("vgg", ["vgg7", "msdnet"]) == " (did you mean 'vgg7'?)"
    assert guess(Path("papr"), ["paper"]) == " (did you mean 'paper'?)"
    for word in ("a" * 10**6, bomb(), 5, None):  # to compare the first would take hours
        assert guess(word, ["a" * 10**6, "b"]) == ""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo\r\n  three\u2028four", "one two three four"),
        ("nul \0, escape \x1b[31m, half \ud800", r"nul \x00, escape \x1b[31m, half \ud800"),
        ("right to left \u202e", r"right to left \u202e"),
        ("köstlich 漢字", "köstlich 漢字"),
    ],
)
def test_the_last_line_is_one_line_that_a_terminal_can_show(message, line, capsys):
    with guarded("train", debug=False) as outcome:
        raise UserError(message)
    assert outcome.code == 2
    assert capsys.readouterr().err == f"offramp train: {line}\n"


def test_the_middle_of_a_long_line_is_left_out(capsys):
    with guarded("train", debug=False):
        raise UserError("the culprit " + "x " * 500_000 + "the remedy")
    line = capsys.readouterr().err
    assert line.startswith("offramp train: the culprit x x") and line.endswith("x the remedy\n")
    assert len(line) < 2100


def test_an_error_is_one_line_in_python_too():
    error = UserError("no column 'a\nb  c\0' among \ud800" + "x" * 10**6)
    assert str(error).startswith(r"no column 'a b  c\x00' among \ud800xx") and len(str(error)) < 2100
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_middle_of_a_long_word_is_left_out():
    """The words around it stay: a remedy after a path of 4,000 characters."""
    line = str(UserError(f"no file {'a/' * 2000}b; give another"))
    assert line.startswith("no file a/a/")
    assert line.endswith("/a/b; give another")
    assert len(line) == 300 + len("no file  give another")
    assert str(UserError("word " * 100)) == ("word " * 100).strip()
