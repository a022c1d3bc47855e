"""Whatever a user writes, in whatever place: one short line that names it, exit code 2, and soon."""

import os

import pytest

from offramp.errors import UserError
from offramp.nets.text import check
from offramp.recipes import Recipe
from offramp.sweeps.file import read_sweep

NINE = ["[x]", *(f"[{', '.join([f'*a{i}'] * 9)}]" for i in range(9))]
VALUES = {
    "no hexadecimal": "0x_",
    "no integer": "!!int _",
    "no boolean": "!!bool x",
    "no time": "!!timestamp x",
    "no float": "!!float 0x",
    "no ordered mapping": "!!omap",
    "digits": "9" * 5000,
    "hexadecimal digits": "0x" + "f" * 5000,
    "brackets": "[" * 2000,
    "closed brackets": "[" * 2000 + "]" * 2000,
    "braces": "{a: " * 2000,
    "a merge": "{<<: 1}",
    "two keys": "{a: 1, a: 2}",
    "bomb": f"[{', '.join(f'&a{i} {items}' for i, items in enumerate(NINE))}]",
    "beyond a float": "1" + "0" * 400,
    "infinite": ".inf",
    "not a number": ".nan",
    "nul": r'"\0"',
    "half a letter": r'"\ud800"',
    "a mapping of lists": "{a: [[1]]}",
    "lists": "[[1], [2]]",
    "long": "x" * 100_000,
}
SETTINGS = (
    "epochs", "lr", "schedule", "milestones", "channels_last", "class_weights", "classes", "ignore_label",
    "tasks", "proportions", "sets", "options", "beta", "own_to_shared", "no_setting",
)  # fmt: skip
MEANT = {("long", "classes"), ("long", "ignore_label")}  # a word of any length may be a class


def refusal(action, *arguments):
    with pytest.raises(UserError) as caught:
        action(*arguments)
    line = str(caught.value)
    assert "\n" not in line and len(line) <= 2000
    return line


@pytest.mark.parametrize("name", VALUES)
def test_no_value_of_a_setting(tmp_path, name):
    sweep = "data: digits\nnet: vgg7\nout: new\nseeds: [0]\n"
    (tmp_path / "sweep").write_text(f"{sweep}methods: {VALUES[name]}\n")
    refusal(read_sweep, tmp_path / "sweep")
    for key in SETTINGS:
        (tmp_path / "recipe").write_text(f"{key}: {VALUES[name]}\n")
        (tmp_path / "sweep").write_text(f"{sweep}recipe: {tmp_path / 'recipe'}\nmethods: [dfs]\n")
        (tmp_path / "own").write_text(f"{sweep}methods: [{{method: dfs, {key}: {VALUES[name]}}}]\n")
        if (name, key) in MEANT:
            continue
        if key not in ("options", "beta", "own_to_shared"):  # whose values the method knows
            refusal(Recipe().with_settings, [f"{key}={VALUES[name]}"])
            refusal(Recipe.load, tmp_path / "recipe")
        refusal(read_sweep, tmp_path / "sweep")
        refusal(read_sweep, tmp_path / "own")


@pytest.mark.parametrize("name", VALUES)
def test_no_value_on_the_command_line(refused, name):
    words = ["train", "--data", "nowhere", "--net", "vgg7", "--method", "dfs", "--out", "new"]
    for key in ("lr", "options", "beta"):
        line = refused(*words, "--set", f"{key}={VALUES[name]}")
        assert "nowhere" not in line and len(line) < 2100
    assert len(refused("eval", "nowhere", "--set", f"size={VALUES[name]}")) < 2100


@pytest.mark.parametrize(
    "text",
    [
        f"vgg7:width={'-' * 3000}4",
        f"vgg7:width={'[' * 3000}",
        f"vgg7:width={'(' * 3000}4{')' * 3000}",
        f"vgg7:width={'1+' * 3000}1",
        f"vgg7:width={'not ' * 3000}1",
        f"vgg7:width={'.' * 3000}",
        f"vgg7:{':' * 3000}",
        f"vgg7:{',' * 3000}",
        f"vgg7:{'a=1,' * 3000}",
        f"vgg7:width={'9' * 5000}",
        f"vgg7:width=0x{'f' * 5000}",
        "vgg7:width=1e999",
        "vgg7:slice_beta=1e999",
        "vgg7:width=1is 2",
        r"vgg7:width='\d'",
        r"vgg7:width='\ud800'",
        "vgg7:width=1j",
        "vgg7:width=...",
        "vgg7:width=lambda: 0",
        "vgg7:width=\0",
        "x" * 100_000,
        f"{'.' * 3000}:build",
        f"{'a.' * 3000}b:build",
        "..:build",
        ".py:build",
        "\0.py:build",
        "\ud800.py:build",
        f"{'n' * 300}.py:build",
        f"{'n/' * 3000}a.py:build",
        "os..path:join",
        "builtins:type",
        "math:pi",
        "sys:modules",
    ],
)
def test_no_net(text):
    refusal(check, text)


@pytest.mark.parametrize("text", ["+" * 3000, "dfs+" * 3000, "+".join(["dfs"] * 3000), "d" * 100_000, "\0"])
def test_no_method(text, refused):
    assert len(refused("cost", "--net", "vgg7", "--method", text)) < 2100


@pytest.mark.parametrize("text", ["1e999999999", "1/1e999999999", "1e-999999999", "9" * 10_000, "1/0", "nan"])
def test_no_factor_of_the_learning_rate(text, refused, tmp_path):
    (tmp_path / "sweep").write_text("{data: digits, net: vgg7, out: new, seeds: [0], methods: [joint]}")
    assert "different numbers above 0" in refused("sweep", tmp_path / "sweep", f"--lr={text}")


TRAIN = ["train", "--data=digits", "--net=vgg7:width=4", "--method=joint", "--out=new"]
READ = {  # places of what must be there
    "data": lambda path: [*TRAIN, f"--data=a={path}", "--data=b=nowhere"],
    "recipe": lambda path: [*TRAIN, f"--recipe={path}"],
    "tokenizer": lambda path: [*TRAIN, f"--tokenizer={path}"],
    "net": lambda path: ["cost", f"--net={path}.py:build"],
    "resumed run": lambda path: ["train", "--resume", f"--out={path}"],
    "evaluated run": lambda path: ["eval", path],
    "policy": lambda path: ["eval", "nowhere", f"--policy={path}"],
    "sweep": lambda path: ["sweep", path],
    "compared run": lambda path: ["compare", path],
    "baseline": lambda path: ["compare", "nowhere", f"--baseline={path}"],
    "diagnosed run": lambda path: ["diagnose", path],
    "image": lambda path: ["predict", "run", path],
}
WRITTEN = {  # places of what may not be there
    "run": lambda path: [*TRAIN[:-1], f"--out={path}"],
    "diagnosis": lambda path: ["diagnose", "nowhere", f"--out={path}"],
    "policy": lambda path: ["calibrate", "nowhere", "--budget=50%", f"--out={path}"],
    "picture": lambda path: ["compare", "nowhere", f"--out={path}.png"],
    "toy": lambda path: ["toy", "--problem=b", "--steps=1", f"--out={path}"],
}
IMPOSSIBLE = ["a\0b", "a\ud800b", "n" * 252, "n" * 5000, "n/" * 3000, "file/x", "ring/x"]
UNFIT = ["~nosuchuser", "~nosuchuser/x", "file", "pipe", "ring", "/dev/zero", "nowhere\n", "", "\x1b[31m"]


@pytest.fixture
def place(tmp_path, monkeypatch, runs):
    (tmp_path / "file").write_text("neither: [YAML, nor")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "run").symlink_to(runs / "joint")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("words", READ)
def test_no_path_to_read_from(words, place, refused):
    for path in [*IMPOSSIBLE, *UNFIT]:
        if (words, path) != ("tokenizer", ""):  # none at all
            assert len(refused(*READ[words](path))) < 2100


@pytest.mark.parametrize("words", WRITTEN)
def test_no_path_to_write_to(words, place, refused):
    for path in IMPOSSIBLE:
        line = refused(*WRITTEN[words](path))
        assert "make room" not in line and "nowhere" not in line
