"""Every command with words that are wrong: one line, exit code 2, and nothing written."""

from __future__ import annotations

import pytest

TRAIN = ["train", "--data", "digits", "--net", "vgg7:width=4", "--method", "joint", "--out", "new"]

# words after the command -> what the line says; the names that are there: see place
WRONG = [
    ([*TRAIN, "--recipe", "papre"], "no recipe of that name"),
    (
        [*TRAIN, "--recipe", "folder"],
        "cannot read the recipe folder: it is a folder, not a file; give a YAML file",
    ),
    ([*TRAIN, "--recipe", "/dev/zero"], "cannot read the recipe /dev/zero: it is a device, not a file; give"),
    (["sweep", "folder"], "cannot read the sweep folder: it is a folder, not a file; give a YAML file"),
    (["cost", "--net", "folder.py:build"], "'folder.py' is no file; give the file that holds your network"),
    (["train", *TRAIN[3:], "--data", "/dev/null"], "/dev/null is a device, not a folder; give the folder"),
    ([*TRAIN, "--set", "beta"], "key=value"),
    ([*TRAIN, "--set", "lrr=1"], "did you mean"),
    ([*TRAIN, "--epochs", "1.5"], "--epochs must be a whole number, got '1.5'"),
    (["toy", "--out", "new", "--seed", "1.5"], "toy: --seed must be a whole number, got '1.5'"),
    (["toy", "--out", "new", "--beta", "half"], "toy: --beta must be a number, got 'half'"),
    (["calibrate", "run", "--out", "new", "--risk", "1%"], "--risk must be a number, got '1%'"),
    (["calibrate", "run", "--out", "new", "--delta", "5%"], "--delta must be a number or none, got '5%'"),
    ([*TRAIN, "--lr", "1"], "no flag --lr (of a setting or an option write --set lr=VALUE)"),
    (
        [*TRAIN, "--batch-size", "8"],
        "no flag --batch-size (of a setting or an option write --set batch_size=VALUE)",
    ),
    ([*TRAIN, "--net", "file.py"], "'file.py' names no network in the file; write file.py:build"),
    ([*TRAIN, "--sed", "1"], "did you mean '--seed'?"),
    ([*TRAIN, "--net", "vgg77"], "did you mean"),
    ([*TRAIN, "--net", "nowhere.py:build"], "nowhere.py"),
    ([*TRAIN, "--method", "jiont"], "did you mean 'joint'?"),
    ([*TRAIN, "--method", "DFS"], "did you mean 'dfs'?"),
    (["train", *TRAIN[3:], "--data", "digit"], "did you mean 'digits'?"),
    (["train", *TRAIN[3:], "--data", "file"], "file"),
    ([*TRAIN, "--data", "rooms"], "NAME=SOURCE each; got digits rooms"),
    ([*TRAIN, "--out", "photos"], "exists and holds no run"),
    ([*TRAIN, "--out", "file"], "exists"),
    ([*TRAIN, "--out", "file", "--resume"], "is no run folder"),
    (["train", "--resume"], "missing: --out"),
    (["train", "--resume", "--out", "nowhere"], "no run in nowhere"),
    (["eval", "nowhere"], "nowhere"),
    (["eval", "file"], "file"),
    (["eval", "folder"], "is no run folder"),
    (["eval"], "--help"),
    (["eval", "run", "--data", "digit"], "did you mean 'digits'?"),
    (["eval", "run", "--net", "vgg77"], "did you mean"),
    (["eval", "run", "--policy", "nowhere.json"], "cannot read the policy nowhere.json"),
    (["eval", "run", "--policy", "folder"], "cannot read the policy folder"),
    (["eval", "run", "--policy", "file"], "is no JSON file"),
    (["predict"], "--help"),
    (["predict", "run"], "no images given"),
    (["predict", "run", "nowhere.png"], "nowhere.png"),
    (["predict", "run", "file"], "file: cannot decode the image"),
    (["predict", "run", "folder"], "folder holds no images"),
    (["predict", "folder", "file"], "is no run folder"),
    (["predict", "run", "file", "--policy", "file"], "is no JSON file"),
    (["predict", "run", "file", "--picture", "nowhere/walk.png"], "there is no folder"),
    (["budget"], "give one or more run folders"),
    (["budget", "folder"], "is no run folder"),
    (["budget", "run", "run"], "is one run and not two"),
    (["budget", "run", "--published", "dfs-fig"], "did you mean 'dfs-fig3'?"),
    (["budget", "run", "--out", "nowhere/budget.png"], "there is no folder"),
    (["budget", "run", "--out", "budget.xyz"], "end the name in"),
    (["budget", "run", "--out", "photo.png"], "photo.png is there already; give another --out"),
    (["predict", "run", "photo.png", "--picture", "photo.png"], "there already; give another --picture"),
    (["compare", "run", "--out", "photo.png"], "photo.png is there already; give another --out"),
    (["predict-maps", "run"], "missing: --out"),
    (["predict-maps", "folder", "--out", "new.png"], "is no run folder"),
    (["predict-maps", "run", "--out", "new.png"], "predicts no maps"),
    (["predict-maps", "run", "--out", "photo.png"], "photo.png is there already; give another --out"),
    (["diagnose", "run", "--out", "photos"], "filters.png is there already, and of no diagnosis"),
    (["calibrate", "run", "--out", "new.json"], "give one"),
    (["calibrate", "run", "--budget", "50%"], "missing: --out"),
    (["calibrate", "run", "--budget", "50%", "--out", "file"], "is there already"),
    (["calibrate", "run", "--budget", "50%", "--out", "nowhere/new.json"], "there is no folder"),
    (["calibrate", "run", "--budget", "50%%", "--out", "new.json"], "or a share of the static network"),
    (["calibrate", "run", "--budget", "1e999", "--out", "new.json"], "must be operations per sample"),
    (["calibrate", "run", "--latency", "1e999s", "--out", "new.json"], "with its unit"),
    (["calibrate", "run", "--latency", "3", "--out", "new.json"], "with its unit"),
    (["calibrate", "run", "--risk", "one", "--out", "new.json"], "--risk"),
    (["calibrate", "run", "--risk", "nan", "--out", "new.json"], "above 0 and below 1"),
    (["calibrate", "run", "--risk", "0.1", "--delta", "2", "--out", "new.json"], "above 0 and below 1"),
    (["calibrate", "run", "--budget", "50%", "--rule", "bset", "--out", "new.json"], "--rule"),
    (["calibrate", "run", "--latency", "50%", "--batch-size", "0", "--out", "new.json"], "batch_size"),
    (["calibrate", "folder", "--budget", "50%", "--out", "new.json"], "is no run folder"),
    (["export", "run", "--out", "new"], "one of --policy, --budget and --risk, got none"),
    (["export", "run", "--budget", "50%", "--risk", "0.1", "--out", "new"], "got --budget and --risk"),
    (["export", "run", "--budget", "50%", "--out", "folder"], "folder is there already"),
    (["export", "run", "--budget", "50%", "--out", "nowhere/new"], "there is no folder"),
    (["export", "folder", "--budget", "50%", "--out", "new"], "is no run folder"),
    (["export", "run", "--budget", "50%", "--precision", "int4", "--out", "new"], "--precision"),
    (["serve"], "--help"),
    (["serve", "nowhere"], "nowhere"),
    (["serve", "folder"], "folder"),
    (["report"], "--help"),
    (["report", "folder", "--out", "new.html"], "is no run folder"),
    (["report", "run", "--out", "nowhere/new.html"], "there is no folder"),
    (["sweep", "nowhere.yaml"], "nowhere.yaml"),
    (["sweep", "folder"], "folder"),
    (["sweep", "file"], "file"),
    (["sweep", "file", "--jobs", "two"], "--jobs"),
    (["reproduce"], "no table or figure is named; see offramp reproduce --list"),
    (["reproduce", "dfs-tabel2"], "did you mean 'dfs-table2'?"),
    (
        ["reproduce", "dfs-table2"],
        "is on CIFAR-100; give its data by --data ..., or other data by --stand-in",
    ),
    (["reproduce", "dfs-table2", "--data", "a", "--stand-in", "CIFAR-100=b"], "and not both"),
    (["reproduce", "dfs-table2", "--data", "nowhere"], "nowhere"),
    (
        ["reproduce", "dfs-table2", "--data", "digits"],
        "to take it in its place, give --stand-in CIFAR-100=digits",
    ),
    (["reproduce", "dr-mgf-table6", "--data", "rooms"], "give --stand-in NYUv2=rooms"),
    (["reproduce", "dfs-table2", "--stand-in", "CIFAR-10=digits"], "the published set, CIFAR-100"),
    (["reproduce", "dfs-table2", "--stand-in", "digits"], "CIFAR-100=path"),
    (["reproduce", "dfs-table2", "--stand-in", "CIFAR-100=digits", "--scale", "2"], "up to 1, e.g. 1/16"),
    (["reproduce", "dfs-table2", "--stand-in", "CIFAR-100=digits", "--scale", "1e-9"], "up to 1, e.g. 1/16"),
    (["reproduce", "dfs-table2", "--stand-in", "CIFAR-100=digits", "--only", "gee"], "did you mean 'ge'?"),
    (["reproduce", "dfs-table4", "--stand-in", "CIFAR-100=digits", "--seeds", "1", "1"], "different whole"),
    (["compare", "nowhere"], "nowhere"),
    (["compare", "file"], "file"),
    (["compare", "run", "--out", "nowhere/deep.xyz"], "nowhere"),
    (["compare"], "give one or more run folders"),
    (["diagnose", "nowhere"], "nowhere"),
    (["compare", "folder"], "is no run folder"),
    (["diagnose", "folder"], "is no run folder"),
    (["diagnose", "run", "--wat"], "no flag --wat"),
    (["toy", "--methods", "jiont"], ""),
    (["toy", "--wat"], "no flag --wat"),
    (["cost", "--net", "vgg77"], "did you mean"),
    (["cost", "--net", "vgg7:widht=4"], "did you mean 'width'?"),
    (["cost", "--net", "vgg7", "--method", "jiont"], "did you mean 'joint'?"),
    (["cost"], "--net"),
    (["nets", "vgg7"], "vgg7"),
    (["nets", ""], "unexpected: ''; there are: "),
    (["nets", "resnet"], "unexpected: resnet; there are: --json, "),
    (["methods", "dsf"], "did you mean 'dfs'"),
    (["methods", "kd+byot"], "each bring their own objective"),
    (["sweep", "a.yaml", "b.yaml"], "unexpected: b.yaml; there are: FILE, --jobs, "),
    (["methods", "--jsn"], "did you mean '--json'?"),
    (["tarin"], "did you mean 'train'?"),
]


@pytest.fixture
def place(tmp_path, monkeypatch, runs):
    (tmp_path / "file").write_text("neither: [YAML, nor")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "photos").mkdir()
    for photo in ("photo.png", "photos/filters.png"):
        (tmp_path / photo).write_bytes(b"a user's")
    (tmp_path / "run").symlink_to(runs / "joint")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    paths = [*folder.rglob("*"), *(folder / "run").rglob("*")]
    return {path: path.is_file() and path.stat().st_mtime_ns for path in paths}  # a lock comes and goes


@pytest.mark.parametrize("json_mode", [False, True])
@pytest.mark.parametrize(("words", "says"), WRONG, ids=lambda value: " ".join(value) if value != "" else "")
def test_one_line_code_2_and_nothing_written(refused, place, words, says, json_mode):
    before = contents(place)
    line = refused(*words, *["--json"] * json_mode)
    assert line.startswith("offramp")
    assert says in line
    assert contents(place) == before


def test_every_command_is_tried():
    from offramp.cli._commands import COMMANDS

    assert COMMANDS.keys() <= {words[0] for words, _ in WRONG}


@pytest.mark.parametrize("word", ["a" * 5000, "a/" * 3000])
def test_long_words_are_not_repeated(refused, place, word):
    """Whatever they stand for, and however the parser breaks its lines."""
    for words in (
        ["nets", word],
        ["nets", f"--{word}"],
        ["diagnose", "run", "--unit", word],
        ["compare", word],
        ["eval", "run", "--policy", word],
        [*TRAIN, "--tokenizer", word],
        [*TRAIN, "--recipe", word],
        ["train", *TRAIN[1:], "--out", word, "--resume"],
        [word],
    ):
        assert len(refused(*words)) < 900, words[:2]


WITHOUT_VALUES = {
    "reproduce": ("--only", "dfs-table4", "--stand-in", "CIFAR-100=digits"),
    "train": ("--set", "--data", "digits", "--net", "vgg7", "--method", "joint", "--out", "nowhere"),
    "eval": ("--baseline", "nowhere"),
    "compare": ("--baseline", "nowhere"),
    "diagnose": ("--what", "nowhere"),
}


@pytest.mark.parametrize(("command", "words"), WITHOUT_VALUES.items(), ids=WITHOUT_VALUES)
def test_a_flag_without_the_values_that_it_takes_is_one_line(offramp, command, words):
    flag, *others = words
    for mistaken in ((*others, flag), (*others, flag, "--json")):
        code, out, err = offramp(command, *mistaken)
        assert (code, out) == (2, "")
        says = f"{flag} has no value; give one or more, or leave it out; see offramp {command} --help"
        assert err == f"offramp {command}: {says}\n"
    assert offramp(command, flag, "--help")[0] == 0
