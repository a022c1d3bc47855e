"""Batches cut into micro-batches: the step is that of the whole batch, or the cut is refused."""

from __future__ import annotations

import re
import weakref

import pytest
import torch
from lightning_fabric import Fabric
from test_every_method import EVERY, Killed
from tiny_runs import CLASSES, Tripwire, rows, tiny_data, tiny_net
from torch import nn

from offramp import Recipe, UserError, fit
from offramp.cli._words import in_flags
from offramp.data import Batch
from offramp.distributed.launch import launch
from offramp.methods import method
from offramp.methods.bound import BoundMethod
from offramp.methods.loops import LoopContext, Progress
from offramp.methods.method import KINDS, Method
from offramp.methods.objectives import Objective
from offramp.nets import MultiExitNet
from offramp.tasks import Classification
from offramp.training._method_checks import check_method
from offramp.training._optimizer import build_optimizer
from offramp.training._placement import model_of

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none", checkpoint_every=2)
OPTIONS = [
    ("dfs", {"impl": "split"}),
    ("dfs", {"impl": "cat"}),
    ("byot", {"lam": 0.0}),
    ("joint", {"weights": [0, 1, 2]}),
    ("pcgrad", {"shared": "union"}),
    ("cagrad", {"shared": "first"}),
    ("dfs+kd+upgrad", {"shared": "union"}),
    ("graddrop", {"shared": "all"}),
    ("aggregate", {"aggregator": "ConFIG"}),
    ("bdl-1", {"window": "local"}),
]
STEPPING = [name for name in EVERY if "regime" not in method(name).axes]  # a regime's steps are joint ones
CASES = [case for case in [*((name, {}) for name in STEPPING), *OPTIONS] if not method(*case).whole_batch]


def smooth_net() -> MultiExitNet:
    """Three exits of wide features in float64, nothing of which sees its neighbours; the last one is sure."""
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(reads, 6, 3, 2, 1), nn.Tanh()) for reads in (3, 6, 6)]
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES)) for _ in stages]
    with torch.no_grad():
        heads[-1][-1].weight *= 20
    return MultiExitNet(stages, heads, input_size=(3, 8, 8)).double()


WEIGHTS = [1 + k / 4 for k in range(CLASSES)]  # so that micro-batches count differently


def three_steps(row: Method, accumulate: int):
    """Losses and gradients of three steps on batches of 7, and what the method remembers afterwards."""
    recipe, fabric = Recipe(lr=0.05), launch("fp32", "cpu")
    net = row.prepare(smooth_net())
    bound = BoundMethod(row, net, recipe.seed).double()
    context = LoopContext(
        model=model_of(net, recipe, fabric, plain_backward="losses" in row.needs),
        net=net,
        bound=bound,
        fabric=fabric,
        optimizer=lambda groups: fabric.setup_optimizers(build_optimizer(groups, recipe)),
        batches=lambda number, count: iter(()),
        tasks=[Classification(label_smoothing=0.1, class_weights=WEIGHTS)] * net.num_exits,
        epochs=2,
        accumulate=accumulate,
    )
    work, found = row.loop.bind(context), []
    draws = torch.Generator().manual_seed(1)
    for _ in range(3):
        images = torch.randn(7, 3, 8, 8, generator=draws, dtype=torch.float64)
        targets = torch.randint(CLASSES, (7,), generator=draws)
        batch = Batch(images, {"label": targets})
        losses = work.step(0, batch, Progress(epoch=0, fraction=0.0, lr=0.05))
        named = [*net.named_parameters(), *bound.named_parameters()]
        found.append([losses.values, *(None if p.grad is None else p.grad.clone() for _, p in named)])
    return found, bound


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_step_is_that_of_the_whole_batch(name, options):
    """Cut into 3, 2 and 2 samples; in float64, so that only the solvers' own tolerances count."""
    (whole, knows), (cut, knew) = (three_steps(method(name, options), count) for count in (1, 3))
    for one, other in zip(whole, cut, strict=True):
        for expected, found in zip(one, other, strict=True):
            assert (expected is None) == (found is None)
            if expected is not None:
                assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()
    if isinstance(getattr(knows.combiner, "steps", None), int):
        assert knows.combiner.steps == knew.combiner.steps == 3
    if "kd" in name.split("+"):
        assert knows.objective.temperature == knew.objective.temperature > 1.1  # 1.05 after each batch


@pytest.mark.parametrize("name", [name for name in EVERY if method(name).whole_batch])
def test_a_method_that_needs_whole_batches_says_why(name, tmp_path):
    line = rf"^accumulate=2 cuts .* '{re.escape(name)}' .* since .*; leave accumulate out$"
    with pytest.raises(UserError, match=line):
        fit(tiny_net(), tiny_data(), name, RECIPE.replace(accumulate=2), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_who_needs_whole_batches():
    staged = ("meta-gf", "dr-avgf", "dr-mgf")
    whole = (
        "byot",
        "survivors",
        "dtp",
        "famo",
        "gradnorm",
        "scalarize",
        "mgda-ub",
        "auto-lambda",
        "hdkd",
        "wpn",
        "rotograd",
    )
    for name in EVERY:
        needy = any(part in whole or part.startswith(staged) for part in name.split("+"))
        assert bool(method(name).whole_batch) == needy, name


def test_on_the_command_line_the_way_out_is_a_flag():
    with pytest.raises(UserError) as refusal:
        check_method(RECIPE.replace(accumulate=2), method("byot"))
    assert "a batch, which --set lam=0 leaves out; leave accumulate out" in in_flags(
        str(refusal.value), "train"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lean": True}, "lean would keep no rows"),
        ({"every": 2, "part": 0.5}, "every and part would keep no rows"),
    ],
)
def test_weights_without_rows_need_whole_batches(options, reason):
    recipe = RECIPE.replace(accumulate=2, options={"shared": "union", **options})
    with pytest.raises(UserError, match=reason):
        fit(tiny_net(), tiny_data(), "mgda", recipe, quiet=True)


def test_an_objective_of_ones_own_says_whether_its_losses_are_means():
    class Largest(Objective):
        def __call__(self, step):
            labels = step.targets["label"]
            return [task.loss(z, labels)[0].max() for task, z in zip(step.tasks, step.outputs, strict=True)]

    row = Method("own", "the worst sample's loss", "no paper", {"objective": Largest()})
    fit(tiny_net(), tiny_data(), row, RECIPE.replace(epochs=1), quiet=True)
    with pytest.raises(UserError, match="Largest does not say that its losses are means over samples"):
        fit(tiny_net(), tiny_data(), row, RECIPE.replace(accumulate=2), quiet=True)


@pytest.mark.parametrize("axis", [axis for axis in KINDS if axis != "regime"])
def test_a_part_of_ones_own_says_so_on_every_axis(axis):
    own = type("Own", (KINDS[axis],), {})
    assert [why.count("Own") for why in Method("own", "", "", {axis: own()}).whole_batch] == [1]
    own.whole_batch = ""
    assert not Method("own", "", "", {axis: own()}).whole_batch


@pytest.mark.parametrize("value", [0, -1, 2.0, True, None])
def test_checked_when_the_recipe_is_built(value):
    with pytest.raises(UserError, match=r"recipe: accumulate is .*, must be a whole number of at least 1"):
        Recipe(accumulate=value)


def test_no_more_micro_batches_than_images():
    with pytest.raises(UserError, match=r"^recipe: accumulate is 9, must be at most batch_size, 8"):
        Recipe(batch_size=8, accumulate=9)


def test_norm_layers_are_asked_about_a_micro_batch(tmp_path):
    net = tiny_net()
    net.heads[0][2] = nn.BatchNorm1d(4)
    with pytest.raises(UserError, match=r"heads\.0\.2 \(BatchNorm1d\).* for each process and micro-batch"):
        fit(net, tiny_data(), "joint", RECIPE.replace(accumulate=5), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["joint", "bdl-2", "nash-mtl", "graddrop"])
def test_loss_scaling_changes_little(name):
    """Under fp16 too, one step cut in four moves the weights as a whole one in fp32 does."""
    nets = []
    for settings in ({}, {"precision": "fp16", "accumulate": 4}):
        recipe = RECIPE.replace(epochs=1, lr=0.1, schedule="constant", train_limit=8, **settings)
        net = tiny_net(dropout=0.0, norm=False)
        before = tiny_net(dropout=0.0, norm=False).state_dict()
        trained = fit(net, tiny_data(train=8), name, recipe, quiet=True).net.state_dict()
        nets.append({k: v - before[k] for k, v in trained.items() if k.endswith("weight")})
    for key, moved in nets[0].items():
        assert (nets[1][key] - moved).abs().max() <= 0.1 * moved.abs().max() + 1e-5, key


@pytest.mark.parametrize("name", ["joint", "kd+pcgrad"])
def test_it_resumes_exactly(name, tmp_path):
    def killed():
        raise Killed

    recipe = RECIPE.replace(accumulate=3, augment="crop-flip")
    whole = fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "whole", quiet=True)
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = 8, killed
    with pytest.raises(Killed):
        fit(tiny_net(), data, name, recipe, tmp_path / "cut", quiet=True)
    cut = fit(tiny_net(seed=9), tiny_data(), name, None, tmp_path / "cut", resume=True, quiet=True)
    torch.testing.assert_close(dict(cut.net.state_dict()), dict(whole.net.state_dict()), rtol=0, atol=0)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    with pytest.raises(UserError, match="accumulate was 3, is 1"):
        fit(tiny_net(), tiny_data(), name, RECIPE.replace(augment="crop-flip"), whole.folder, resume=True)


@pytest.mark.parametrize("name", ["joint", "dfs", "pcgrad"])
def test_a_micro_batch_is_gone_before_the_next(name):
    net, outputs, sizes = tiny_net(norm=False), [], []

    def before(module, args):
        sizes.append(len(args[0]))
        assert all(reference() is None for reference in outputs)

    def after(module, args, made):
        outputs.append(weakref.ref(made))

    recipe = RECIPE.replace(epochs=1, accumulate=3)
    with net.stages[0].register_forward_pre_hook(before), net.heads[-1].register_forward_hook(after):
        fit(net, tiny_data(train=8, val=0), name, recipe, quiet=True)
    assert sizes[-6:-3] == [3, 3, 2]  # and then the test set, whose images come by 8


@pytest.mark.parametrize(("name", "times"), [("joint", 3), ("pcgrad", 0)])
def test_processes_average_with_the_last_micro_batch(name, times, monkeypatch):
    """Fabric is told so for each one before; where a combiner averages rows, there is nothing to tell."""
    calls, told = [], Fabric.no_backward_sync

    def spy(self, module, enabled=True):
        calls.append(enabled)
        return told(self, module, enabled)

    monkeypatch.setattr(Fabric, "no_backward_sync", spy)
    fit(tiny_net(), tiny_data(train=8), name, RECIPE.replace(epochs=1, accumulate=4), quiet=True)
    assert calls == [True] * times
