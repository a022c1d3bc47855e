"""A run that gets more epochs ends with the very bits of the longer run, or is refused."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from tiny_runs import rows, tiny_data, tiny_net

from offramp import Recipe, UserError, fit
from offramp.methods import METHODS, Method, method
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.ramp import Ramp
from offramp.runs import Run, extension

SHORT = Recipe(epochs=2, batch_size=8, lr=0.05, schedule="constant", options={"beta": 0.75})
STEPS = Recipe(epochs=2, batch_size=8, lr=0.05, schedule="multistep", milestones=[1])


def train(folder, recipe, name="dfs", **rest):
    return fit(tiny_net(), tiny_data(), name, recipe, folder, quiet=True, **rest)


@pytest.fixture
def constant(tmp_path):
    """A finished run of two epochs."""
    train(tmp_path / "run", SHORT)
    return tmp_path / "run"


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def assert_same_run(folder, other):
    assert rows(folder) == rows(other)
    for name in ("weights.safetensors", "result.json", "run.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize(
    ("short", "more"),
    [
        (SHORT, {"epochs": 4}),
        (STEPS, {"epochs": 4}),
        (STEPS, {"epochs": 5, "milestones": [1, 2, 4]}),
    ],
)
@pytest.mark.parametrize("name", ["dfs", "meta-gf"])
def test_an_extended_run_equals_the_long_one(tmp_path, short, more, name):
    if name == "meta-gf":
        short = short.replace(options={"fusion_gamma": 1.0})
    train(tmp_path / "run", short, name)
    before = content(tmp_path / "run")
    long = short.replace(**more)
    extended = train(tmp_path / "run", long, name, resume=True)
    straight = train(tmp_path / "straight", long, name)
    assert_same_run(tmp_path / "run", tmp_path / "straight")
    assert extended.result == straight.result
    assert content(tmp_path / "run" / "epochs-2") == before
    shorter = Run.open(tmp_path / "run" / "epochs-2", tiny_net())
    assert shorter.result.to_json() == json.loads(before["result.json"])


def test_every_extension_keeps_what_was_there(constant):
    for epochs in (3, 4):
        train(constant, SHORT.replace(epochs=epochs), resume=True)
    assert sorted(path.name for path in constant.glob("epochs-*")) == ["epochs-2", "epochs-3"]
    (constant / "epochs-4").write_text("a user's own")
    train(constant, SHORT.replace(epochs=5), resume=True)
    assert (constant / "epochs-4").read_text() == "a user's own"
    assert (constant / "epochs-4-2" / "result.json").is_file()


@pytest.mark.parametrize("call", ["write_folder", "remove_file", "write_files"])
def test_killed_while_it_begins_it_is_still_a_run(constant, tmp_path, monkeypatch, call):
    def killed(*_):
        raise KeyboardInterrupt

    result = (constant / "result.json").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(extension, call, killed)
        train(constant, SHORT.replace(epochs=3), resume=True)
    fit(tiny_net(seed=9), tiny_data(), out=constant, resume=True, quiet=True)  # as the run of two epochs
    assert (constant / "result.json").read_bytes() == result
    train(constant, SHORT.replace(epochs=3), resume=True)
    train(tmp_path / "straight", SHORT.replace(epochs=3))
    assert_same_run(constant, tmp_path / "straight")


@pytest.mark.parametrize(
    ("name", "short", "more", "says"),
    [
        ("joint", {"schedule": "onecycle"}, {}, "schedule onecycle follows the number of epochs"),
        ("joint", {"schedule": "cosine", "epochs": 1}, {}, "schedule cosine follows"),
        ("joint", {"schedule": "multistep", "milestones": [1]}, {"milestones": [2]}, "milestones [] of the"),
        ("sdn-ramp", {}, {}, "the ramp of method sdn-ramp"),
        ("meta-gf", {}, {}, "fusion_gamma=0.1 of method meta-gf"),
        ("meta-gf", {"options": {"fusion_gamma": 1.0, "ramp": True}}, {}, "ramp=True of"),
        ("dr-mgf", {"options": {"fusion_gamma": 1.0}}, {}, "routed_share=0.5 of"),
        ("joint", {}, {"lr": 0.1}, "lr was 0.05, is 0.1"),
        ("joint", {}, {"schedule": "onecycle"}, "schedule was 'constant'"),
    ],
)
def test_what_would_have_begun_otherwise_is_refused(tmp_path, name, short, more, says):
    recipe = dataclasses.replace(SHORT, **{"options": {}, **short})
    train(tmp_path / "run", recipe, name)
    before = content(tmp_path / "run")
    with pytest.raises(UserError) as refused:
        train(tmp_path / "run", recipe.replace(epochs=4, **more), name, resume=True)
    assert says in str(refused.value)
    assert "another folder" in str(refused.value)
    assert content(tmp_path / "run") == before
    assert not (tmp_path / "run" / "epochs-2").exists()


class Halved(TaskLoss):
    """An objective of a user's own."""

    def __call__(self, step):
        return [loss / 2 for loss in super().__call__(step)]


class HalvedWhateverTheEpochs(Halved):
    reads_epochs = ()


def mine(row, objective):
    return Method("mine", "", "", parts=METHODS[row].parts | {"objective": objective})


@pytest.mark.parametrize("row", ["dfs", "dfs-no-reference"])
def test_a_method_of_ones_own_is_extended_when_it_is_given_again(tmp_path, row):
    own = mine(row, HalvedWhateverTheEpochs())
    recipe = SHORT.replace(options={})
    finished = train(tmp_path / "run", recipe, own)
    assert train(tmp_path / "run", recipe, own, resume=True).result == finished.result
    assert train(tmp_path / "run", None, own, resume=True).result == finished.result
    opened = Run.open(tmp_path / "run", tiny_net(), method=own)
    assert opened.evaluate(tiny_data()) == finished.result
    train(tmp_path / "run", recipe.replace(epochs=4), own, resume=True)
    train(tmp_path / "straight", recipe.replace(epochs=4), own)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_a_method_of_ones_own_must_be_given_again(tmp_path):
    own = dataclasses.replace(METHODS["joint"], name="mine")
    train(tmp_path / "run", SHORT.replace(options={}), own)
    for call in (
        lambda: train(tmp_path / "run", None, None, resume=True),
        lambda: Run.open(tmp_path / "run", tiny_net()),
    ):
        with pytest.raises(UserError) as refused:
            call()
        told = "was trained with 'mine', a Method of your own; give it again in Python, to Run.open or fit"
        assert str(refused.value) == f"{tmp_path / 'run'} {told}"
    with pytest.raises(UserError, match="another method: it was 'mine', is 'kd'"):
        Run.open(tmp_path / "run", tiny_net(), method=METHODS["kd"])


@pytest.mark.parametrize("kind", [Halved, Ramp])
def test_what_may_read_the_number_of_epochs_is_not_extended(tmp_path, kind):
    own = mine("joint", kind())
    recipe = SHORT.replace(options={})
    train(tmp_path / "run", recipe, own)
    says = {
        Halved: r"Halved of method mine .* say reads_epochs = \(\) in that class",
        Ramp: "the ramp of method mine reads",
    }
    with pytest.raises(UserError, match=says[kind]):
        train(tmp_path / "run", recipe.replace(epochs=3), own, resume=True)


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(constant):
    import shutil

    shutil.rmtree(constant / "checkpoint")
    with pytest.raises(UserError, match="no checkpoint left"):
        train(constant, SHORT.replace(epochs=3), resume=True)
    assert (constant / "result.json").is_file()


def test_method_and_recipe_come_from_the_record(constant):
    net = tiny_net(seed=9)
    again = fit(net, tiny_data(), out=constant, resume=True, quiet=True)
    assert (again.record["method"], again.record["options"]["beta"]) == ("dfs", 0.75)
    own = method("dfs", {"beta": 0.75})
    assert fit(net, tiny_data(), own, out=constant, resume=True, quiet=True).result == again.result
    with pytest.raises(UserError, match="another method: it was 'dfs', is 'joint'"):
        fit(net, tiny_data(), "joint", SHORT.replace(options={}), out=constant, resume=True)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_reads_the_number_of_epochs_says_so(name):
    row = METHODS[name]
    text = repr((row.objective, row.loop, row.regime))
    regimes = r"Mixed\(|Disjoint\(|BranchWise\(|ZeroTimeWaste\("
    reads = re.search(rf"Ramp\(|ramp=True|fusion_gamma=0|routed_share=0\.[1-9]|{regimes}", text)
    assert bool(row.reads_epochs) == bool(reads)
