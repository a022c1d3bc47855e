"""What every method of the table must do: learn, differ from joint training, resume exactly, take fp16."""

from functools import partialmethod
from itertools import pairwise

import pytest
import torch
from steps import exit_step
from tiny_runs import Tripwire, for_method, tiny_data, tiny_net
from torch import nn

from offramp import Recipe, fit
from offramp.data import open_data
from offramp.methods import METHODS
from offramp.methods import method as registered
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.nets import MultiExitNet, vgg7

COMPOSED = [
    "dfs+kd",
    "dfs+byot",
    "dfs+pcgrad",
    "dfs+ge",
    "ge+kd",
    "kd+dr-mgf",
    "kd+uncertainty",
    "dfs+uncertainty+cagrad",
    "dfs+dr-mgf",
    "kd+meta-gf",
    "dfs+auto-lambda",
]
EVERY = [*METHODS, *COMPOSED]
STEPPING = [
    name for name in EVERY if "regime" not in registered(name).axes
]  # a regime's steps are joint ones
RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="crop-flip", checkpoint_every=2)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def digits():
    return open_data("digits", train_limit=600, test_limit=300)


@pytest.fixture(scope="module")
def five_joint_steps():
    return five_steps("joint")


def five_steps(method):
    torch.manual_seed(3)
    net = vgg7(num_classes=3, width=4)
    net.input_size = (3, 8, 8)
    recipe = Recipe(epochs=1, batch_size=8, lr=0.05, schedule="constant", augment="none")
    return fit(net, tiny_data(), method, for_method(recipe, method), quiet=True).net.state_dict()


def three_exits(images):
    widths = (3, 8, 16, 16)
    stages = [
        nn.Sequential(nn.Conv2d(reads, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        for reads, width in pairwise(widths)
    ]
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10)) for width in widths[1:]
    ]
    return MultiExitNet(stages, heads, input_size=images.input_size)


@pytest.mark.slow
@pytest.mark.parametrize("method", EVERY)
def test_it_learns_digits(digits, method):
    torch.manual_seed(0)
    axes = registered(method).axes
    epochs = 3 if "regime" in axes else 2  # two phases
    if method == "branch-wise":
        epochs = 6  # with one exit of three at a time
    recipe = Recipe(
        epochs=epochs, batch_size=20, lr=0.1, schedule="cosine", augment="none", channels_last=True
    )
    net = three_exits(digits)
    if not registered(method).regime.trains_backbone:
        fit(net, digits, "joint", recipe, quiet=True)
    run = fit(net, digits, method, for_method(recipe, method), quiet=True)
    assert run.result["method"] == method
    assert run.result["exits"][-1]["top1"] > 60  # chance is 10
    assert run.result["average_top1"] > 33


@pytest.mark.parametrize("method", [name for name in STEPPING if name not in ("joint", "dwa")])
def test_it_is_not_joint_training(five_joint_steps, method):  # dwa is, for two epochs
    found = five_steps(method)
    if method == "separate":  # the copy for exit 1 has the first stage to itself
        found = {"stages.0.0.weight": found["nets.0.0.0.weight"]}
    apart = max(
        float((found[name] - five_joint_steps[name]).abs().max()) for name in found if name.endswith("weight")
    )
    assert apart > 1e-4


@pytest.mark.parametrize("method", EVERY)
def test_it_resumes_exactly(tmp_path, method):
    def killed():
        raise Killed

    recipe = for_method(RECIPE, method)
    whole = fit(tiny_net(), tiny_data(), method, recipe, tmp_path / "whole", quiet=True)
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = 7, killed  # in the second epoch, after a checkpoint at its step 2
    with pytest.raises(Killed):
        fit(tiny_net(), data, method, recipe, tmp_path / "cut", quiet=True)
    cut = fit(tiny_net(seed=99), tiny_data(), method, recipe, tmp_path / "cut", resume=True, quiet=True)
    for name, tensor in cut.net.state_dict().items():
        assert torch.equal(tensor, whole.net.state_dict()[name]), name
    assert cut.result == whole.result


@pytest.mark.parametrize("method", STEPPING)
def test_loss_scaling_changes_little(method, monkeypatch):
    """One step under fp16 moves the weights as one in fp32 does: nobody forgets to unscale or to scale."""
    scaler = torch.amp.GradScaler  # from a scale at which no method's first gradients overflow
    monkeypatch.setattr(scaler, "__init__", partialmethod(scaler.__init__, init_scale=2.0**12))
    nets = []
    for precision in ("fp32", "fp16"):
        recipe = Recipe(
            epochs=1,
            batch_size=8,
            lr=0.1,
            schedule="constant",
            augment="none",
            precision=precision,
            train_limit=8,
        )
        net = tiny_net(dropout=0.0)
        before = tiny_net(dropout=0.0).state_dict()
        trained = fit(
            net, tiny_data(train=8), method, for_method(recipe, method), quiet=True
        ).net.state_dict()
        if method == "separate":
            trained = {"heads.0.3.weight": trained["nets.0.1.3.weight"]}
        nets.append({k: v - before[k] for k, v in trained.items() if k.endswith("weight")})
    for name, moved in nets[0].items():
        scale = moved.abs().max()
        assert (nets[1][name] - moved).abs().max() <= 0.1 * scale + 1e-5, name


@pytest.mark.parametrize("options", [{"part": 0.5}, {"every": 2}, {"part": 0.5, "every": 2}, {"lean": True}])
def test_cheaper_weights_train_and_resume_exactly(tmp_path, options):
    def killed():
        raise Killed

    recipe = RECIPE.replace(options={"shared": "union", **options})
    whole = fit(tiny_net(), tiny_data(), "nash-mtl", recipe, tmp_path / "whole", quiet=True)
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = (
        8,
        killed,
    )  # between two refreshments
    with pytest.raises(Killed):
        fit(tiny_net(), data, "nash-mtl", recipe, tmp_path / "cut", quiet=True)
    cut = fit(tiny_net(seed=9), tiny_data(), "nash-mtl", recipe, tmp_path / "cut", resume=True, quiet=True)
    torch.testing.assert_close(dict(cut.net.state_dict()), dict(whole.net.state_dict()), rtol=0, atol=0)


def test_a_part_of_the_batch_leaves_the_batch_statistics_alone():
    nets = []
    for options in ({}, {"part": 0.5}):
        recipe = RECIPE.replace(epochs=1, options={"shared": "union", **options})
        net = fit(tiny_net(dropout=0.0), tiny_data(train=8), "mgda", recipe, quiet=True).net
        nets.append(dict(net.named_buffers()))
    torch.testing.assert_close(nets[1], nets[0])  # after one step, when the weights were still the same


@pytest.mark.parametrize("method", ["graddrop", "byot"])
def test_the_seed_reaches_what_a_method_draws(method):
    """The same net, order and batches; only the method's own draws differ."""
    net, found = tiny_net(dropout=0.0), []
    for seed in (1, 2, 1):
        bound = BoundMethod(METHODS[method], net, seed)
        torch.manual_seed(0)
        outputs, features, trunk = net(torch.randn(6, 3, 8, 8), keep=True)
        step = exit_step(net, outputs, torch.arange(6) % 3, features=features, trunk=trunk)
        net.zero_grad()
        bound.combine(bound.losses_of(step), step, Backward())
        found.append(net.stages[0][0].weight.grad.clone())
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
