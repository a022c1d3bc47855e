"""Values and texts that nobody means, as Hypothesis strategies; and mutations of what somebody did mean."""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

NASTY = (
    "", " ", "\0", "a\0b", "\n", "a\nb", "\x1b[31m", "\ud800", "\udcff", "\u202e", "~nosuchuser", "~", ".",
    "..", "-x", "--", "'", '"', "`", "{", "[", "{}", "[]", "null", "true", "nan", ".inf", "1e999", "-1",
    "0", "1e-400", "off", "é", "x" * 300, "y" * 5000, "9" * 5000, "-" * 3000 + "1", "[" * 2000, "(" * 300,
    "%s%n", "${HOME}",
)  # fmt: skip

texts: SearchStrategy[str] = st.one_of(st.sampled_from(NASTY), st.text(st.characters(), max_size=12))

# what cannot be printed is built, so that Hypothesis prints the call


def huge() -> int:
    """A whole number of more digits than Python prints."""
    return 10**5000


numbers: SearchStrategy[Any] = st.one_of(
    st.integers(-3, 40),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, 5e-324, True, False]),
)

scalars: SearchStrategy[Any] = st.one_of(st.none(), numbers, texts)

values: SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=3)
    ),
    max_leaves=8,
)

json_values: SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


def alias_bomb(levels: int = 40) -> list[Any]:
    """A list of lists that is small in memory and endless when printed."""
    bomb: list[Any] = ["lol"]
    for _ in range(levels):
        bomb = [bomb] * 9
    return bomb


def endless() -> list[Any]:
    """A list that holds itself."""
    inner: list[Any] = []
    inner.append(inner)
    return inner


def nested(depth: int = 5000) -> list[Any]:
    """Lists in lists, deeper than Python recurses."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


objects: SearchStrategy[Any] = st.one_of(
    values,
    st.builds(huge),
    st.builds(alias_bomb),
    st.builds(endless),
    st.builds(nested),
    st.builds(object),
    st.binary(max_size=5),
    st.tuples(values),
    st.complex_numbers(),
    st.sampled_from([{1, 2}, int, len, range(9), 1j, ...]),
)


def places(content: Any, inside: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a nested value has values: paths of keys and positions; of a long list the first two."""
    items = content.items() if isinstance(content, dict) else [*enumerate(content)][:2]
    for key, value in items:
        yield (*inside, key)
        if isinstance(value, (dict, list, tuple)):
            yield from places(value, (*inside, key))


@st.composite
def changes(draw: DrawFn, content: Any, junk: SearchStrategy[Any], most: int = 2) -> list[tuple[Any, ...]]:
    """Changes of a nested value: its places, and what is to be there, as :func:`changed` reads them."""
    known = st.sampled_from([*places(content)])
    made = []
    for _ in range(draw(st.integers(1, most))):
        what = draw(st.sampled_from(["junk", "junk", "gone", "another", "twice"]))
        than = {"junk": junk, "gone": st.none(), "another": known, "twice": texts}[what]
        made.append((what, draw(known), draw(than)))
    return made


def changed(content: Any, made: list[tuple[Any, ...]]) -> Any:
    """A nested value, places of which are gone, hold junk, or what another place has, or are there twice."""
    content = copy.deepcopy(content)
    for what, place, value in made:
        with contextlib.suppress(IndexError, KeyError, TypeError):  # the place is gone
            _change(content, what, place, value)
    return content


def _change(content: Any, what: str, place: tuple[Any, ...], value: Any) -> None:
    *outer, last = place
    inner = _inside(content, outer)
    kept = inner[last]
    if what == "gone":
        del inner[last]
    elif what == "twice" and isinstance(inner, list):
        inner.append(kept)
    elif what == "twice":
        inner[value] = kept
    else:
        inner[last] = copy.deepcopy(_inside(content, value)) if what == "another" else value


def _inside(content: Any, place: Iterable[Any]) -> Any:
    return functools.reduce(operator.getitem, place, content)


def mutated(content: Any, junk: SearchStrategy[Any], most: int = 2) -> SearchStrategy[Any]:
    """A nested value with a few changes."""
    return changes(content, junk, most).map(lambda made: changed(content, made))


@st.composite
def spoilt(draw: DrawFn, content: bytes) -> bytes:
    """Bytes that are cut short, flipped in places, doubled, or others."""
    what = draw(st.sampled_from(["cut", "flip", "flip", "insert", "other", "double"]))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if what == "cut":
        return content[:at]
    if what == "insert":
        return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]
    if what == "other":
        return draw(st.binary(max_size=200))
    if what == "double":
        return content + content
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3)) if changed else 0):
        changed[draw(st.integers(0, len(changed) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)
