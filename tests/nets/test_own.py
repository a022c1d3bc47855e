"""Networks of a user's own, by the place of their code."""

import sys

import pytest
import torch

from offramp.errors import UserError
from offramp.nets.text import build, check, parse_net, sketch, word

CODE = """
import offramp
from torch import nn
from blocks_of_mine import conv

def backbone(width, num_classes):
    return nn.Sequential(
        conv(3, width), conv(width, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )

def build(width=4, *, num_classes=10):
    return offramp.attach(backbone(width, num_classes), at=["0"])

def fixed():
    return build()

def anything(**options):
    return build(**options)

def needs(depth):
    return build()

def wrong_place():
    return offramp.attach(backbone(4, 10), at=["layer9"])

def fails():
    conv(3, 4)
    raise KeyError("lost")

net = build()
plain = backbone(4, 10)
number = 3
"""
BLOCKS = """
from torch import nn

def conv(reads, writes):
    return nn.Sequential(nn.Conv2d(reads, writes, 3, 2, 1), nn.ReLU())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(CODE)
    (folder / "blocks_of_mine.py").write_text(BLOCKS)
    return folder


@pytest.fixture
def mine(folder):
    return str(folder / "mine.py")


def classes(net):
    return {logits.shape[1] for logits in net(torch.zeros(1, 3, 32, 32))}


def test_a_function_is_called_with_what_it_takes(mine):
    net = build(f"{mine}:build:width=6", 7, (3, 20, 20))
    assert next(net.parameters()).shape[0] == 6
    assert classes(net) == {7}
    assert net.input_size == (3, 20, 20)
    assert net.spec == {"net": f"{mine}:build", "width": 6, "num_classes": 7}
    assert word(net.spec) == f"{mine}:build:width=6"
    assert classes(build(f"{mine}:build:num_classes=5", 7)) == {5}
    assert classes(build(f"{mine}:fixed", 7)) == {10}
    assert classes(build(f"{mine}:anything", 7)) == {10}
    assert classes(build(f"{mine}:anything:num_classes=6", 7)) == {6}


def test_a_net_of_the_file_is_copied(mine):
    one, other = build(f"{mine}:net"), build(f"{mine}:net")
    assert one is not other
    with torch.no_grad():
        one.heads[0][-1].weight.zero_()
    assert other.heads[0][-1].weight.any() and build(f"{mine}:net").heads[0][-1].weight.any()
    assert other.spec == {"net": f"{mine}:net"}


def test_a_module_is_imported_from_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = list(sys.path)
    check("mine:build:width=2")
    assert build("mine:build:width=2").spec == {"net": "mine:build", "width": 2}
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "mine")
    monkeypatch.delitem(sys.modules, "blocks_of_mine")


def test_a_sketch_takes_the_number_of_classes_or_refuses_it(mine):
    assert classes(sketch(f"{mine}:build", 3)) == {3}
    with pytest.raises(UserError, match="fixed has no argument 'num_classes'; it has none"):
        sketch(f"{mine}:fixed", 3)


def test_a_name_of_the_zoo_is_the_zoos():
    assert parse_net("vgg7:width=16") == ("vgg7", {"width": 16})
    with pytest.raises(UserError, match="cannot read the network 'vgg7:width'"):
        parse_net("vgg7:width")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mine.py:buidl", r"has no 'buidl' \(did you mean 'build'\?\)"),
        ("mine.py:build:widht=3", r"has no argument 'widht' \(did you mean 'width'\?\); it has: width, num"),
        ("mine.py:build:width", "cannot read the network"),
        ("mine.py:build:width={1}", "cannot read the network"),
        ("mine.py:needs", r"needs a value for its argument 'depth'; write .*mine\.py:needs:depth="),
        ("mine.py:net:width=3", "is no function and takes no arguments; leave out width"),
        ("mine.py:number", "is an int, no net and no function; name a net"),
        ("mine.py:plain", "is a Sequential without exits, not .* make one of it, e.g. by offramp.attach"),
        (
            "mine.py:backbone:width=4,num_classes=3",
            "is a Sequential without exits, not .* make one of it, e.g. by offramp.attach",
        ),
        ("mine.py:nn", r"mine\.py:nn is a module, no net and no function; name a net"),
        ("mine.py:wrong_place", r"cannot build .*mine\.py, line 24: Sequential has no module 'layer9'"),
        ("mine.py:fails", r"cannot build .*mine\.py, line 28: KeyError: 'lost'"),
        ("mine.py:build:width='a'", r"blocks_of_mine\.py, line 5: TypeError"),
        ("nowhere.py:build", r"there is no file .*nowhere\.py"),
        (".py:build", "there is no file"),
    ],
)
def test_mistakes_are_one_line(folder, text, says):
    with pytest.raises(UserError, match=says) as told:
        build(f"{folder}/{text}")
    assert "\n" not in str(told.value)


def test_no_such_module():
    with pytest.raises(
        UserError, match=r"there is no module 'nowhere_at_all' here; .* path/to/file\.py:build"
    ):
        check("nowhere_at_all:build")
    with pytest.raises(UserError, match=r"'mine\.py' names no network in the file; write mine\.py:build"):
        check("mine.py")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "x = 1\nimport nowhere_at_all",
            r"broken\.py, line 2: ModuleNotFoundError: No module named 'nowhere",
        ),
        ("\n\nx = (", r"broken\.py, line 3: SyntaxError: '\(' was never closed"),
        ("import sys\nsys.exit(3)", r"broken\.py, line 2: it ends the program; put what .* __name__ == "),
        ("raise ValueError('one\\ntwo')", r"broken\.py, line 1: ValueError: one$"),
        (
            "class Mute(Exception):\n    def __str__(self):\n        raise self\nraise Mute",
            r"broken\.py, line 4: Mute: what it says cannot be shown$",
        ),
    ],
)
@pytest.mark.parametrize("look", [check, build])
def test_a_file_that_cannot_be_imported_is_named_with_its_line(tmp_path, code, says, look):
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(UserError, match=f"cannot import {tmp_path}/broken.py: .*{says}"):
        look(f"{tmp_path / 'broken.py'}:build")


@pytest.mark.parametrize("file", ["x" * 300 + ".py", "x/" * 3000 + "y.py", "a\0b.py", "\ud800.py", "."])
def test_a_file_that_no_file_system_has(file):
    with pytest.raises(UserError, match=r"there is no (file|module) '"):
        check(f"{file}:build")
