"""Learning rates and decays of heads, norm layers and biases, against optimisers set up by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import assert_a_stopped_run_goes_on, rows, tiny_data, tiny_net
from torch import nn

from offramp import Recipe, UserError, fit
from offramp.data import pipeline
from offramp.nets import MultiExitNet, Separate
from offramp.training._groups import grouped

PLAIN = Recipe(epochs=2, batch_size=8, lr=0.02, weight_decay=0.1, schedule="constant", channels_last=False)
HEADS = {"head_lr_factor": 3.0, "head_decay": 0.01}
LIGHT = {"norm_lr_factor": 0.5, "norm_decay": 0.0}
EXPECTED = {  # (learning rate, decay) of a weight of the body, of a head, of what is light in either
    "nothing": ({}, (0.02, 0.1), (0.02, 0.1), (0.02, 0.1), (0.02, 0.1)),
    "heads": (HEADS, (0.02, 0.1), (0.06, 0.01), (0.02, 0.1), (0.06, 0.01)),
    "light": (LIGHT, (0.02, 0.1), (0.02, 0.1), (0.01, 0.0), (0.01, 0.0)),
    "both": (HEADS | LIGHT, (0.02, 0.1), (0.06, 0.01), (0.01, 0.0), (0.03, 0.0)),
}  # fmt: skip


def by_hand(net, recipe, body, head, light, light_head):
    groups = []
    for name, parameter in net.named_parameters():  # each one a group: batch norm is layer 1 of a stage
        slight = name.endswith("bias") or name.split(".")[2] == "1"
        lr, decay = (
            (light_head if slight else head) if name.startswith("heads") else light if slight else body
        )
        groups.append({"params": [parameter], "lr": lr, "weight_decay": decay})
    optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    if recipe.optimizer != "sgd":
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](groups)
    data = tiny_data()
    transform, _ = pipeline(recipe.augment, data)
    net.train()
    for epoch in range(recipe.epochs):
        for batch in data.train.batches(
            8, transform=transform, device="cpu", seed=recipe.seed, epoch=epoch, shuffle=True, drop_last=True
        ):
            images, targets = batch.inputs, batch.targets["label"]
            optimizer.zero_grad()
            sum(F.cross_entropy(z, targets) for z in net(images)).backward()
            optimizer.step()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(("settings", "body", "head", "light", "light_head"), EXPECTED.values(), ids=EXPECTED)
def test_each_group_has_its_own(settings, body, head, light, light_head, optimizer):
    recipe = PLAIN.replace(optimizer=optimizer, **settings)
    oracle, net = tiny_net(dropout=0.0), tiny_net(dropout=0.0)
    by_hand(oracle, recipe, body, head, light, light_head)
    fit(net, tiny_data(), "joint", recipe, quiet=True)
    # Adam divides by the root of squared gradients: rounding counts for more
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if optimizer == "sgd" else {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(dict(net.named_parameters()), dict(oracle.named_parameters()), **tolerance)


def test_what_is_light():
    """Layer norm over maps has weights of three dimensions; a norm layer of another make is known by one."""

    class OtherNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm([4, 2, 2]), OtherNorm(), nn.PReLU())
    net = MultiExitNet([body, nn.Identity()], [nn.Linear(4, 2, bias=False) for _ in range(2)])
    groups = list(grouped(net.parameters(), PLAIN.replace(norm_decay=0.0), net))
    heavy = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert heavy == {id(body[0].weight), *(id(head.weight) for head in net.heads)}
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


def test_heads_of_separate_networks():
    net = Separate(tiny_net())
    groups = list(grouped(net.parameters(), PLAIN.replace(head_lr_factor=2.0), net))
    found = {id(p) for group in groups if group["lr_factor"] == 2.0 for p in group["params"]}
    assert found == {id(p) for one in net.nets for p in one[-1].parameters()}


def test_off_leaves_the_parameters_as_they_came():
    net = tiny_net()
    parameters = list(net.parameters())
    assert grouped(parameters, PLAIN, net) is parameters


def test_a_stopped_run_goes_on_to_the_bit(tmp_path):
    recipe = PLAIN.replace(epochs=3, checkpoint_every=2, schedule="onecycle", **HEADS, **LIGHT)
    _, stopped = assert_a_stopped_run_goes_on(tmp_path, recipe)
    assert rows(stopped)[-1]["epoch"] == "3"
    with pytest.raises(UserError, match=r"another recipe: head_lr_factor was 3.0, is 2.0"):
        other = recipe.replace(head_lr_factor=2.0)
        fit(tiny_net(), tiny_data(), "dfs", other, stopped, resume=True, quiet=True)


@pytest.mark.parametrize("method", ["meta-gf", "dr-mgf"])
def test_loops_of_stages_say_why_not(method, tmp_path):
    with pytest.raises(UserError, match=f"'{method}' fuses .* leave out head_lr_factor"):
        fit(tiny_net(), tiny_data(), method, PLAIN.replace(norm_decay=0.0), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("head_lr_factor", 0), ("norm_lr_factor", float("inf")), ("head_decay", -1), ("norm_decay", "no")],
)
def test_checked_when_the_recipe_is_built(name, value):
    with pytest.raises(UserError, match=f"recipe: {name} is .*, must be a number"):
        Recipe(**{name: value})
