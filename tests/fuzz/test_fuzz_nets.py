"""Networks as words: names of the zoo with arguments, and code of one's own."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junk import NASTY, numbers, texts
from oracle import command, examples, works

from offramp.nets import NETS
from offramp.nets.text import build, check, sketch

names = st.one_of(
    st.sampled_from([name for name in NETS if name != "segnet_mtan"]), texts
)  # large at its size
arguments = st.sampled_from(
    [
        "width", "num_classes", "depth", "exits", "steps", "growth", "blocks", "channels", "tasks",
        "input_size", "", "*", "a b",
    ]
)  # fmt: skip
literals = st.one_of(
    numbers.map(repr),
    st.sampled_from(
        [
            *NASTY, "none", "true", "(1,", "(1, 2)", "[1]", "{}", "{1}", "1j", "b'x'", "...", "lambda: 1",
            "a.b", "f()", "1 if 1 else 2", "-" * 3000 + "1", "1" + "+1" * 3000, "not " * 3000 + "1",
            "(" * 150 + ")" * 150, "9" * 5000, "'" + "x" * 5000 + "'", "[" + "1," * 3000 + "]", "*x", "**x",
            "1_0", "0x_", "10**10**10",
        ]
    ),
    texts,
)  # fmt: skip
specs = st.one_of(
    st.builds("{}:{}={}".format, names, arguments, literals),
    st.builds("{}:{}={},{}={}".format, names, arguments, literals, arguments, literals),
    st.builds("{}:{}".format, names, literals),
    names,
)


@examples(150)
@given(specs)
def test_names_and_arguments(spec):
    works(sketch, spec)


@examples(40)
@given(specs, st.one_of(st.none(), st.integers(-2, 12), st.sampled_from([10**20, 2**63])))
def test_counting(spec, classes):
    command("cost", "--net", spec, *([] if classes is None else ["--classes", str(classes)]))


@examples(30)
@given(
    st.sampled_from(["vgg7:width=2", "resnet_sdn:width=2", "msdnet_cifar", "vgg_sdn:width=1"]),
    st.one_of(st.integers(-3, 40), st.sampled_from([10**9, 10**12, 2**31, 2**63, 10**20, 10**400])).map(str)
    | texts,
)
def test_sizes(net, size):
    command("cost", "--net", net, "--size", size)


MODULE = """
import os, sys
import torch
from torch import nn
from offramp.nets import MultiExitNet, vgg7

def none(): return None
def text(): return "vgg7"
def module(): return nn.Linear(2, 2)
def leaves(): sys.exit(0)
def leaves_too(): raise SystemExit("bye")
def deep(): return deep()
def fails(): raise RuntimeError("two\\nlines\\n" * 500)
def odd(): raise ValueError(object())
def bare(): raise Exception
def asserts(): assert False
def missing(): raise KeyError
def unprintable():
    class Odd(Exception):
        def __str__(self): raise RuntimeError("no text")
    raise Odd
def group(): raise ExceptionGroup("several", [ValueError(1), TypeError(2)])
def memory(): return torch.empty(10**15)
def good(width=2, num_classes=10): return vgg7(width=width, num_classes=num_classes)
def needs(value): return good()
def star(*a, **k): return good()
def generator(): yield good()
class Kind: pass
class Raises:
    def __init__(self): raise OSError(28, "No space left on device")
value = 3
nothing = None
net = good()
layers = nn.Linear(2, 2)
lazy = nn.LazyLinear(3)
property_ = property(good)
"""
FAILING = {
    "empty": "",
    "syntax": "def (",
    "nul": "a = 1\0",
    "exits": "import sys; sys.exit(3)",
    "exits0": "raise SystemExit",
    "raises": "raise RuntimeError('a\\nb')",
    "imports": "import nobody_has_this",
    "loops": "from loops import net",
    "deep": "def f(): f()\nf()",
    "tabs": "if 1:\n\ta=1\n        b=2",
    "strings": "x = '" + "y" * 10000,
    "brackets": "x = " + "(" * 500,
    "minus": "x = " + "-" * 5000 + "1",
}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """A folder from which modules are imported, that holds some that go wrong."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "attacked.py").write_text(MODULE)
    for name, content in FAILING.items():
        (folder / f"failing_{name}.py").write_bytes(content.encode())
    (folder / "failing_latin.py").write_bytes(b"# \xe9\nx = '\xff'\n")
    (folder / "failing_folder.py").mkdir()
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


attributes = st.sampled_from(re.findall(r"^(?:def |class )?(\w+)(?:\(|:| =)", MODULE, flags=re.MULTILINE))
modules = st.one_of(
    st.just("attacked"),
    st.just("attacked"),
    st.sampled_from([*FAILING, "latin", "folder"]).map("failing_{}".format),
    st.sampled_from(
        ["json", "torch", "torch.nn", "attacked.net", ".attacked", "attacked.", "..", "os.path", "failing"]
    ),
    texts,
)
places = st.builds(
    "{}{}:{}{}".format,
    modules,
    st.sampled_from(["", "", ".py", "/x.py"]),
    st.one_of(
        attributes, attributes, texts, st.sampled_from(["__doc__", "__name__", "dumps", "Linear", "exit"])
    ),
    st.one_of(st.just(""), st.just(""), literals.map(":width={}".format), literals.map(":value={}".format)),
)


@examples(90)
@given(place=places, whole=st.booleans())
def test_code_of_one_s_own(code, monkeypatch, place, whole):
    monkeypatch.chdir(code)
    works(build if whole else check, place)


@examples(30)
@given(place=places)
def test_code_of_one_s_own_is_counted(code, monkeypatch, place):
    monkeypatch.chdir(code)
    command("cost", "--net", place)
