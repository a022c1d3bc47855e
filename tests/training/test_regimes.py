"""Training period by period: what moves in each, against trainings of the parts alone."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_runs import assert_resumes_to, rows, tiny_data, tiny_net
from torch import nn

from offramp import Recipe, UserError, fit
from offramp.methods import METHODS, method
from offramp.methods.loops.staged import DRMGF
from offramp.methods.regimes.disjoint import Disjoint
from offramp.methods.regimes.mixed import Mixed
from offramp.nets import MultiExitNet
from offramp.nets.branch import Branch
from offramp.training._last_epochs import EndOfTraining
from offramp.training._period import recipe_of

RECIPE = Recipe(epochs=4, batch_size=8, lr=0.05, augment="crop-flip")
REGIMES = ["mixed", "disjoint", "branch-wise"]


def three_exits() -> MultiExitNet:
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(reads, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()) for reads in (3, 4, 4)
    ]
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
        for _ in stages
    ]
    return MultiExitNet(stages, heads, input_size=(3, 8, 8))


def states(monkeypatch, net, name, recipe, **options):
    """The net's state before the first epoch and after each."""
    seen = [{key: value.clone() for key, value in net.state_dict().items()}]
    keep = EndOfTraining.keep

    def kept(self, epoch, trained):
        seen.append({key: value.clone() for key, value in trained.state_dict().items()})
        keep(self, epoch, trained)

    monkeypatch.setattr(EndOfTraining, "keep", kept)
    fit(net, tiny_data(), name, recipe.replace(**options), quiet=True)
    return seen


def moved(before, after):
    """Names of stages and heads in which anything changed, buffers included."""
    return {".".join(key.split(".")[:2]) for key in before if not torch.equal(before[key], after[key])}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_mixed_without_its_first_period_is_joint_training():
    nets = [three_exits(), three_exits()]
    fit(nets[0], tiny_data(), "joint", RECIPE, quiet=True)
    fit(nets[1], tiny_data(), "mixed", RECIPE.replace(backbone_share=0), quiet=True)
    assert_equal(nets[1].state_dict(), nets[0].state_dict())


@pytest.mark.parametrize("name", ["mixed", "disjoint"])
def test_the_backbone_is_trained_as_a_net_with_one_exit(monkeypatch, name):
    alone = three_exits()
    fit(Branch(alone, 2), tiny_data(), "joint", RECIPE.replace(epochs=2), quiet=True)
    found = states(monkeypatch, three_exits(), name, RECIPE)
    assert_equal(found[2], alone.state_dict())
    assert moved(found[0], found[2]) == {"stages.0", "stages.1", "stages.2", "heads.2"}


def test_disjoint_ends_with_the_heads_alone(monkeypatch):
    net = three_exits()
    found = states(monkeypatch, net, "disjoint", RECIPE)
    assert moved(found[2], found[4]) == {"heads.0", "heads.1"}  # statistics of norm layers too
    assert all(p.requires_grad for p in net.parameters())


def test_mixed_ends_as_joint_training_begins(monkeypatch):
    found = states(monkeypatch, three_exits(), "mixed", RECIPE, backbone_share=0.75)
    assert moved(found[3], found[4]) == {f"{part}.{k}" for part in ("stages", "heads") for k in range(3)}


def test_branch_wise_trains_one_exit_after_the_other(monkeypatch):
    found = states(monkeypatch, three_exits(), "branch-wise", RECIPE.replace(epochs=4))
    periods = [0, 1, 3, 4]  # 4 epochs by 3
    for k in range(3):
        assert moved(found[periods[k]], found[periods[k + 1]]) == {f"stages.{k}", f"heads.{k}"}


def test_branch_wise_begins_with_a_net_of_its_first_stage(monkeypatch):
    alone = three_exits()
    fit(Branch(alone, 0), tiny_data(), "joint", RECIPE.replace(epochs=2), quiet=True)
    found = states(monkeypatch, three_exits(), "branch-wise", RECIPE.replace(epochs=6))
    assert_equal(found[2], alone.state_dict())


def test_what_came_frozen_stays_so(monkeypatch):
    net = three_exits()
    net.stages[0].requires_grad_(False)
    net.stages[0].eval()
    found = states(monkeypatch, net, "mixed", RECIPE)
    assert "stages.0" not in moved(found[0], found[4])
    assert not any(p.requires_grad for p in net.stages[0].parameters())


def test_forks_cut_in_the_second_period_alone(monkeypatch):
    """Deep Feature Surgery keeps the last loss from half of the channels; before it the backbone is whole."""
    plain = states(monkeypatch, three_exits(), "mixed", RECIPE)
    cut = states(monkeypatch, three_exits(), "mixed+dfs", RECIPE)
    assert_equal(cut[2], plain[2])
    assert moved(cut[3], plain[3])


def test_a_loop_counts_the_epochs_of_its_period(monkeypatch):
    """Two of six epochs are the backbone's: DR-MGF asks by its own four which of them are gated."""
    asked = set()

    def gated_in(self, epoch, epochs):
        asked.add((epoch, epochs))
        return False

    monkeypatch.setattr(DRMGF, "gated_in", gated_in)
    recipe = RECIPE.replace(epochs=6, backbone_share=1 / 3)
    fit(three_exits(), tiny_data(), "mixed+dr-mgf", recipe, quiet=True)
    assert asked == {(epoch, 4) for epoch in range(4)}


@pytest.mark.parametrize(("name", "trained"), [("mixed", "heads.2"), ("branch-wise", "heads.0")])
def test_heads_have_their_own_rate_where_one_exit_is_trained(monkeypatch, name, trained):
    """At a small rate the way of a parameter is proportional to it."""
    recipe = RECIPE.replace(epochs=3, lr=1e-4, weight_decay=0.0, schedule="constant")
    ways = []
    for factor in (1.0, 3.0):
        with monkeypatch.context() as patch:
            before, after, *_ = states(patch, three_exits(), name, recipe, head_lr_factor=factor)
        ways.append({key: after[key] - before[key] for key in before})
    for key, factor in ((f"{trained}.3.weight", 3.0), ("stages.0.0.weight", 1.0)):
        assert ways[0][key].abs().max() > 0
        torch.testing.assert_close(ways[1][key], factor * ways[0][key], rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("name", [*REGIMES, "mixed+dfs+cagrad", "mixed+dr-mgf", "disjoint+kd"])
@pytest.mark.parametrize("epochs", [2, 3])
def test_a_stopped_run_goes_on_within_and_between_periods(tmp_path, name, epochs):
    """Ended by an error in an epoch, at whose beginning a period may begin."""
    recipe = RECIPE.replace(checkpoint_every=2)
    run = fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "alone", quiet=True)
    keep, done = EndOfTraining.keep, []

    def stop(self, epoch, net):
        keep(self, epoch, net)
        done.append(epoch)
        if epoch == epochs:
            raise KeyError("stop")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError):
        patch.setattr(EndOfTraining, "keep", stop)
        fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "stopped", quiet=True)
    assert done[-1] == epochs
    assert_resumes_to((recipe, tmp_path / "alone", run), tmp_path / "stopped", name)


@pytest.mark.parametrize(
    ("share", "epochs", "first"),
    [(0.65, 4, 3), (0.7, 3, 2), (0.1, 4, 1), (0.9, 4, 3), (0.01, 2, 1)],
)
def test_the_share_is_rounded_and_leaves_an_epoch_to_each_period(share, epochs, first):
    for regime in (Mixed(backbone_share=share), Disjoint(backbone_share=share, lr_factor=0.2)):
        backbone, second = regime.periods(epochs, three_exits())
        assert (backbone.epochs, second.epochs) == (first, epochs - first)
        assert (backbone.lr_factor, second.lr_factor) == (1, regime.lr_factor)


def test_each_period_has_the_whole_schedule():
    recipe = Recipe(epochs=30, schedule="multistep", milestones=(15, 24), lr=0.1)
    first, second = Mixed(backbone_share=0.5, lr_factor=0.2).periods(30, three_exits())
    assert (first.epochs, second.epochs) == (15, 15)
    assert recipe_of(first, recipe).milestones == (8, 12)
    assert (recipe_of(first, recipe).lr, recipe_of(second, recipe).lr) == (0.1, pytest.approx(0.02))
    assert recipe_of(Mixed().periods(2, three_exits())[0], recipe).schedule == "constant"


def test_the_log_tells_losses_passes_and_rates_by_period(tmp_path):
    fit(three_exits(), tiny_data(), "disjoint", RECIPE, tmp_path / "run", quiet=True)
    lines = rows(tmp_path / "run")
    assert [math.isnan(float(line["train_loss_1"])) for line in lines] == [True, True, False, False]
    assert [float(line["passes"]) for line in lines] == pytest.approx([1, 2, 2 + 1 / 3, 2 + 2 / 3], abs=1e-5)
    assert METHODS["disjoint"].passes_of(three_exits().outputs).joint(3) == pytest.approx((2 + 2 / 3) / 4)
    assert lines[1]["lr"] == lines[3]["lr"]  # the end of the schedule, twice
    fit(
        three_exits(), tiny_data(), "branch-wise", RECIPE.replace(epochs=3), tmp_path / "branches", quiet=True
    )
    # forward as far as the exit, back through its stage
    costs = [(k / 3 + 2 / 3) / 3 for k in (1, 2, 3)]
    passes = [float(line["passes"]) for line in rows(tmp_path / "branches")]
    assert passes == pytest.approx([sum(costs[:k]) for k in (1, 2, 3)], abs=1e-5)
    assert METHODS["branch-wise"].passes_of(three_exits().outputs).joint(3) == pytest.approx(sum(costs) / 3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("disjoint+dfs", {}, "'disjoint' trains each exit with its own loss alone, so that 'dfs' would"),
        ("disjoint+cagrad", {}, "'cagrad' would have nothing to do"),
        ("branch-wise+kd", {}, "'kd' would have nothing to do"),
        ("branch-wise", {"weights": [1, 2]}, "weights would have nothing to do"),
        ("mixed+dfs-no-reference", {}, "another network afterwards"),
        ("mixed+disjoint", {}, "each bring their own regime, and a training has one"),
        ("mixed+separate", {}, "shares nothing"),
        ("mixed", {"backbone_share": 1}, "backbone_share is 1, must be a number from 0 to below 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name, options, words):
    with pytest.raises(UserError) as caught:
        method(name, options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "epochs", "words"),
    [
        ("mixed", 1, "give 2 or more, or backbone_share=0"),
        ("branch-wise", 2, "takes one or more for each of 3 exits; give 3 or more"),
    ],
)
def test_too_few_epochs_for_the_periods(tmp_path, name, epochs, words):
    with pytest.raises(UserError, match=words):
        fit(three_exits(), tiny_data(), name, RECIPE.replace(epochs=epochs), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_loop_of_ones_own_has_one_period():
    with pytest.raises(UserError, match="'mixed' trains in periods with parameters of their own"):
        method("mixed").bind(three_exits())


def test_more_epochs_would_have_been_other_periods(tmp_path):
    recipe = RECIPE.replace(schedule="constant")
    fit(three_exits(), tiny_data(), "mixed", recipe, tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="the regime Mixed of method mixed reads the number of epochs"):
        fit(
            three_exits(), tiny_data(), "mixed", recipe.replace(epochs=6), tmp_path / "run", resume=True,
            quiet=True,
        )  # fmt: skip


def test_each_period_is_announced(capsys):
    fit(three_exits(), tiny_data(), "disjoint", RECIPE.replace(epochs=3, backbone_share=0.7))
    told = capsys.readouterr().err
    assert "epochs 1 to 2 of 3: backbone\n" in told
    assert "epoch 3 of 3: heads\n" in told
