"""Every file of a run, changed in one place to what is readable but wrong: one line, and it never passes.

The changes are drawn from all places of each file and all kinds of junk with a fixed seed.
"""

import copy
import itertools
import json
import random
import shutil

import pytest
import safetensors.torch
import torch
from tiny_runs import Tripwire, tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit
from offramp.reports import compare
from offramp.runs import checkpoint
from offramp.training._trainer import Trainer

METHODS = {"joint": {"average": 0.9, "last_epochs": 2}, "nash-mtl": {}, "dr-mgf": {}}
JUNK = (
    None, "", "x", -1, 1.5, float("nan"), float("inf"), -1e308, 10**400, True, [], {}, [1], {"a": 1},
    "a\0b\ud800", "y" * 5000,
)  # fmt: skip
ABSENT = object()
# What people are told, and what a method or a recipe has a say in, which may take null or a list.
FREE = {"versions", "name", "source", "shapes", "options", "recipe"}


class Stop(Exception):
    pass


@pytest.fixture(scope="module", params=METHODS)
def runs(request, tmp_path_factory):
    """The folders of a finished run and of one that stopped in its second epoch, and the method."""
    method, settings = request.param, METHODS[request.param]
    recipe = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none", checkpoint_every=2, **settings)
    folder = tmp_path_factory.mktemp(method)
    fit(tiny_net(), tiny_data(), method, recipe, folder / "whole", quiet=True)
    data = tiny_data(split=Tripwire)
    data.train.at = 7 if method != "dr-mgf" else 28  # the third step of a phase

    def stop():
        raise Stop

    data.train.act = stop
    with pytest.raises(Stop):
        fit(tiny_net(), data, method, recipe, folder / "stopped", quiet=True)
    unchecked(folder)
    return folder / "whole", folder / "stopped", method


def files(*names):
    """Each method with each file; what only some runs keep, the last one, with the first method alone."""
    return [(method, name) for method in METHODS for name in names if name != names[-1] or METHODS[method]]


def places(content, inside=()):
    """Where a nested value has values, of a list the first two."""
    items = content.items() if isinstance(content, dict) else [*enumerate(content)][:2]
    for key, value in items:
        yield (*inside, key)
        if isinstance(value, (dict, list, tuple)):
            yield from places(value, (*inside, key))


def at(content, place):
    for key in place:
        content = content[key]
    return content


def changed(content, place, junk):
    """The content with junk at a place."""
    key, *rest = place
    new = dict(content) if isinstance(content, dict) else list(content)
    if rest:
        new[key] = changed(content[key], rest, junk)
    elif junk is ABSENT:
        del new[key]
    else:
        new[key] = junk
    return tuple(new) if isinstance(content, tuple) else new


def tensors(good):
    """Tensors that are wrong where a good one must stand."""
    yield good[None].clone()
    yield good.double() if good.dtype != torch.float64 else good.float()
    yield torch.empty(good.shape, dtype=good.dtype, device="meta")
    yield torch.zeros(good.shape).to_sparse() if good.dim() else torch.zeros(2)
    if good.is_floating_point() and good.numel():
        for number in (float("nan"), float("inf")):
            bad = good.clone(memory_format=torch.contiguous_format)
            bad.view(-1)[0] = number
            yield bad


def line_of(act):
    """The line by which an act is refused; empty where it is done."""
    try:
        act()
    except UserError as error:
        line = str(error)
        assert line and "\n" not in line and len(line) < 1200
        return line
    return ""


def refused(act):
    line = line_of(act)
    assert line
    return line


def the_same(one, other):
    """Whether junk is what stood there; NaN is not."""
    if isinstance(one, dict):  # of whatever class
        return one == other
    return type(one) is type(other) and not isinstance(one, torch.Tensor) and one == other


@pytest.fixture(scope="module")
def trainer(runs):
    """A trainer that is about to go on with the stopped run, and what its checkpoint holds."""
    caught = []

    def catch(self):
        caught.append(self)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "restore", catch)
        with pytest.raises(Stop):
            fit(tiny_net(), tiny_data(), None, None, runs[1], resume=True, quiet=True)
    state = torch.load(checkpoint.last(runs[1]) / "state.pt", weights_only=True)
    del state["record"]  # which has tests of its own, and which older versions did not write
    return caught[0], state


def plausible(place, junk):
    """Whether a checkpoint with this in this place could be one of the same training."""
    logged = place[0] in ("rows", "phase_rows") and len(place) == 3
    if junk is ABSENT:  # of an optimiser that has met no gradient yet, or of older versions
        later = place[0] in ("phase", "phase_began", "phase_rows") or "param_groups" in place
        return logged or later or place[-2:-1] == ("state",)
    number = isinstance(junk, (int, float)) and not isinstance(junk, bool)
    named = place[-1] in ("lr", "seconds", "phase_began") or place[-2:-1] == ("factors",)
    none_yet = place[-1] in ("state", "states", "weights") and junk == {}
    word = none_yet or (place[-1] == "part" and isinstance(junk, str))
    return word or (number and (logged or (named and junk == 1.5)))


def test_no_changed_checkpoint_is_gone_on_from(trainer, monkeypatch):
    at_rest, good = trainer
    start = copy.deepcopy(at_rest.state)

    def go_on(values):
        at_rest.state = copy.deepcopy(start)
        monkeypatch.setattr(at_rest.folder, "load", lambda net: copy.deepcopy(values))
        at_rest.restore()

    go_on(good)
    changes = []
    for place in places(good):
        value = at(good, place)
        wrong = tensors(value) if isinstance(value, torch.Tensor) else ()
        absent = [ABSENT] if isinstance(at(good, place[:-1]), dict) else []
        changes += [
            (place, junk)
            for junk in (*JUNK, *absent, *wrong)
            if not the_same(junk, value) and not plausible(place, junk)
        ]
    accepted = []
    for place, junk in random.Random(0).sample(changes, 250):
        line = line_of(lambda place=place, junk=junk: go_on(changed(good, place, junk)))
        if "state.pt is of another training than this one" not in line:
            accepted.append((place, junk, line))
    assert accepted == []


@pytest.mark.parametrize(
    ("key", "by"), [("epoch", 1), ("epoch", -1), ("step", 1), ("step", -1), ("step", 100), ("phase", 1)]
)
def test_a_checkpoint_of_another_place_is_refused(trainer, monkeypatch, key, by):
    at_rest, good = trainer
    monkeypatch.setattr(at_rest.folder, "load", lambda net: copy.deepcopy(good | {key: good[key] + by}))
    refused(at_rest.restore)


@pytest.mark.parametrize(
    ("runs", "name"), files("weights.safetensors", "checkpoint", "average.safetensors"), indirect=["runs"]
)
@pytest.mark.parametrize("wrong", ["nan", "inf", "float64", "variance"])
def test_weights_that_are_none_are_refused(runs, tmp_path, name, wrong):
    whole, stopped, _ = runs
    folder = tmp_path / "run"
    shutil.copytree(stopped if name == "checkpoint" else whole, folder)
    path = checkpoint.last(folder) / "weights.safetensors" if name == "checkpoint" else folder / name
    weights = safetensors.torch.load(path.read_bytes())
    key = "stages.0.1.running_var" if wrong == "variance" else "stages.1.0.weight"
    weights[key] = weights[key].double() if wrong == "float64" else weights[key].clone()
    if wrong != "float64":
        weights[key].view(-1)[0] = -1.0 if wrong == "variance" else float(wrong)
    path.write_bytes(safetensors.torch.save(weights))
    if name == "checkpoint":
        line = refused(lambda: fit(tiny_net(), tiny_data(), None, None, folder, resume=True, quiet=True))
    else:
        line = refused(lambda: Run.open(folder, tiny_net(), averaged=name.startswith("average")))
    assert str(path) in line and key in line


def test_no_changed_record_or_result_is_an_internal_error(runs, tmp_path):
    folder, draws = tmp_path / "run", random.Random(1)
    shutil.copytree(runs[0], folder, ignore=shutil.ignore_patterns("tensorboard", "checkpoint"))
    accepted = []
    for name in ("run.json", "result.json"):
        text = (folder / name).read_bytes()
        good = json.loads(text)
        changes = [
            (place, junk)
            for place, junk in itertools.product(places(good), (*JUNK, ABSENT))
            if not the_same(junk, at(good, place)) and (junk is not ABSENT or isinstance(place[-1], str))
        ]
        for place, junk in draws.sample(changes, 60):
            (folder / name).write_text(json.dumps(changed(good, place, junk)))
            opened, compared = (
                line_of(read)
                for read in (lambda: Run.open(folder, tiny_net()), lambda: compare([folder]).table())
            )
            plain = junk is ABSENT or isinstance(junk, (str, int, float)) or FREE.intersection(place)
            if not (opened and compared) and not plain:
                accepted.append((place, junk, opened, compared))
        (folder / name).write_bytes(text)
    assert accepted == []


MEANINGLESS = {
    "run.json": [
        ("normalisation.std.0", 0), ("normalisation.std.1", -0.5), ("normalisation.std.2", float("nan")),
        ("normalisation.std.0", 1e308), ("normalisation.mean.0", float("inf")),
        ("normalisation.mean.0", True), ("normalisation.mean", [0.5] * 4),
        ("data.train", -1), ("data.val", 1.5), ("data.num_classes", 4),
        ("data.input_size", [3, 10**6, 10**6]), ("data.input_size.0", True), ("data.classes.0", None),
        ("data.classes.0", "half\ud800"), ("seed", 1), ("seed", -1), ("recipe.epochs", "2"),
        ("recipe.lr", float("nan")), ("frozen", [1]),
    ],
    "result.json": [
        ("seed", 1), ("method", "other"), ("data", "other"), ("exits.0.top1", 101), ("exits.0.top1", -1),
        ("exits.0.top1", float("inf")), ("exits.0.params", -1), ("exits.0.params", 1.5),
        ("exits.1.flops", True), ("average_top1", 0.125), ("ensemble_top1", 10**400),
        ("convention", "guesses"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "key", "value"), [(name, *change) for name, changes in MEANINGLESS.items() for change in changes]
)
def test_content_without_meaning_is_refused(runs, tmp_path, name, key, value):
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder, ignore=shutil.ignore_patterns("tensorboard", "checkpoint"))
    place = [int(part) if part.isdigit() else part for part in key.split(".")]
    (folder / name).write_text(json.dumps(changed(json.loads((folder / name).read_text()), place, value)))
    for read in (lambda: Run.open(folder, tiny_net()), lambda: compare([folder])):
        assert name in refused(read)


@pytest.mark.parametrize(
    ("runs", "name"), files("run.json", "result.json", "last_epochs.json"), indirect=["runs"]
)
@pytest.mark.parametrize(
    "text",
    [b'{"seed": 0, "seed": 1}', b"[" * 10**5, b'{"a":' * 60 + b"1" + b"}" * 60, b"[]", b"\xff", b"9" * 5000],
    ids=["a key twice", "deep lists", "deep mappings", "a list", "no text", "5000 digits"],
)
def test_json_that_is_none_of_a_run_is_refused(runs, tmp_path, name, text):
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder, ignore=shutil.ignore_patterns("tensorboard"))
    (folder / name).write_bytes(text)
    if name == "last_epochs.json":
        (folder / "result.json").unlink()
        line = refused(lambda: fit(tiny_net(), tiny_data(), None, None, folder, resume=True, quiet=True))
        assert "delete it" in line
    else:
        line = refused(lambda: Run.open(folder, tiny_net()))
    assert name in line


def test_a_run_goes_on_with_images_of_the_same_levels_alone(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs[1], folder, ignore=shutil.ignore_patterns("tensorboard"))
    good = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(changed(good, ("normalisation", "std", 1), 0.5)))
    line = refused(lambda: fit(tiny_net(), tiny_data(), None, None, folder, resume=True, quiet=True))
    assert "images whose std was" in line and str(folder) in line
