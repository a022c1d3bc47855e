"""A frozen backbone stays what it is to the last bit, whatever trains its heads."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import offramp
from offramp import attach

RECIPE = offramp.Recipe(
    epochs=1, batch_size=16, train_limit=32, test_limit=10, lr=0.05, schedule="constant", optimizer="sgd",
    momentum=0.0, nesterov=False, weight_decay=0.01, val_fraction=0.0, augment="none",
)  # fmt: skip


class Branching(nn.Module):
    """Python decides by sizes, so that stages replay this forward; dropout without a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = (conv_norm(a, b) for a, b in ((3, 4), (4, 6)))
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < 2:
            raise ValueError
        x = nn.functional.dropout(self.low(x), 0.5, self.training)
        return self.fc(self.high(x).mean((2, 3)))


def conv_norm(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5)
    )


def chain() -> nn.Module:
    net = nn.Sequential()
    net.add_module("low", conv_norm(3, 4))
    net.add_module("high", conv_norm(4, 6))
    net.add_module("end", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)))
    return net


def frozen(build=chain, **options) -> tuple[nn.Module, offramp.MultiExitNet]:
    torch.manual_seed(0)
    backbone = build()
    for name, buffer in backbone.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return backbone, attach(backbone, ["low"], freeze_backbone=True, **options)


@pytest.mark.parametrize("build", [chain, Branching])
@pytest.mark.parametrize("came", [True, False], ids=["train", "eval"])
def test_in_a_loop_of_ones_own(build, came):
    backbone, net = frozen(lambda: build().train(came))
    before, x = copy.deepcopy(backbone), torch.randn(6, 3, 8, 8)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    method = offramp.method("joint").bind(net)
    head = copy.deepcopy(net.heads[0])
    for _ in range(3):
        net.train()
        method.backward(x, torch.arange(6))
        optimizer.step()
    assert net.training and net.heads[0].training
    with torch.no_grad():
        assert torch.equal(net(x)[-1], before(x))  # in train mode too: no dropout, no batch statistics
        assert torch.equal(backbone(x), before(x))
    assert all(map(torch.equal, backbone.state_dict().values(), before.state_dict().values()))
    assert not any(map(torch.equal, net.heads[0].parameters(), head.parameters()))


@pytest.mark.parametrize("method", ["joint", "dfs", "kd", "byot", "cagrad", "bdl-1", "separate"])
def test_fit_trains_the_heads_alone(method):
    _, net = frozen()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run = offramp.fit(net, "digits", method=method, recipe=RECIPE, quiet=True)
    if method == "separate":
        names = [("nets.1." + name, name) for name in ("0.low.1.running_mean", "1.high.0.weight")]
        after = run.net.state_dict()
        same = {theirs: torch.equal(after[ours], before["stages." + theirs]) for ours, theirs in names}
        assert all(same.values())
        return
    moved = [name for name, value in run.net.state_dict().items() if not torch.equal(before[name], value)]
    assert moved == [name for name in before if name.startswith("heads.0.")]
    assert run.record["frozen"] == ["stages", "heads.1"]
    assert run.record["eval_mode"] == ["stages.0", "stages.1", "heads.1"]


def test_the_head_has_a_learning_rate_of_its_own():
    """One step of plain SGD goes ``lr * head_lr_factor`` times the gradient, hence three times as far."""
    steps = []
    for factor in (1.0, 3.0):
        _, net = frozen()
        before = net.heads[0][-1].weight.detach().clone()
        recipe = RECIPE.replace(train_limit=16, head_lr_factor=factor, weight_decay=0.0)
        offramp.fit(net, "digits", recipe=recipe, quiet=True)
        steps.append(net.heads[0][-1].weight.detach() - before)
    torch.testing.assert_close(steps[1], 3 * steps[0])
    assert steps[0].any()


def test_it_goes_on_as_if_it_had_not_stopped(tmp_path):
    recipe = RECIPE.replace(epochs=2)
    _, net = frozen()
    whole = offramp.fit(net, "digits", recipe=recipe, out=tmp_path / "whole", quiet=True)
    _, net = frozen()
    offramp.fit(net, "digits", recipe=recipe.replace(epochs=1), out=tmp_path / "half", quiet=True)
    _, net = frozen()
    longer = offramp.fit(net, "digits", recipe=recipe, out=tmp_path / "half", resume=True, quiet=True)
    after = zip(whole.net.state_dict().values(), longer.net.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in after)


def test_it_ends_when_the_backbone_is_trained_again():
    backbone, net = frozen()
    backbone.requires_grad_()
    net.train()
    assert all(module.training for module in net.modules())
    before = net.stages[0].state_dict()["low.1.running_mean"].clone()
    net(torch.randn(4, 3, 8, 8))
    assert not torch.equal(before, net.stages[0].state_dict()["low.1.running_mean"])


def test_methods_that_fuse_shared_weights_say_that_there_are_none():
    _, net = frozen()
    with pytest.raises(offramp.UserError, match="no two outputs of this net share a trainable parameter"):
        offramp.fit(net, "digits", method="meta-gf", recipe=RECIPE, quiet=True)


def test_stages_of_ones_own_are_frozen_too():
    backbone = chain()
    stages = ["low", ["high", nn.Identity(), "end"]]
    net = attach(backbone, stages=stages, input_size=(3, 8, 8), freeze_backbone=True)
    net.train()
    trained = [name for name, p in net.named_parameters() if p.requires_grad]
    assert trained == ["heads.0.2.weight", "heads.0.2.bias"]
    assert [module.training for module in backbone.children()] == [False] * 3
