"""A step on samples of several data sets: a forward pass for each, every loss on its own set's samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import offramp
from offramp import UserError
from offramp.data import Batch, JointBatch
from offramp.nets import Net
from offramp.tasks import Boxes, Classification


class TwoTasks(Net):
    """A trunk for images of any size, and two decoders with batch norm."""

    input_size = (1, 6, 6)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.outputs = {"kind": Classification(target="kind"), "box": Boxes(target="box")}
        self.trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.heads = nn.ModuleList(
            [
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, n))
                for n in (3, 4)
            ]
        )

    def forward(self, x):
        feature = self.trunk(x)
        return [head(feature) for head in self.heads]


def joint_batch(seed=0):
    random = torch.Generator().manual_seed(seed)
    kinds = Batch(
        torch.randn(5, 1, 6, 6, generator=random), {"kind": torch.arange(5) % 3}, keys=frozenset({"kind"})
    )
    boxes = torch.rand(8, 4, generator=random).sort(1).values[:, [0, 2, 1, 3]]
    return JointBatch(
        {
            "a": kinds,
            "b": Batch(torch.randn(8, 1, 9, 7, generator=random), {"box": boxes}, keys=frozenset({"box"})),
        }
    )


def by_hand(net, batch):
    """The two losses, each of its own images."""
    kind, box = batch.parts["a"], batch.parts["b"]
    values, weights = net.outputs["box"].loss(net(box.inputs)[1], box.targets["box"])
    return [
        F.cross_entropy(net(kind.inputs)[0], kind.targets["kind"]),
        (values * weights).sum() / weights.sum(),
    ]


def rows(net, losses):
    trunk = [*net.trunk.parameters()]
    return [
        torch.cat([g.flatten() for g in torch.autograd.grad(f, trunk, retain_graph=True)]) for f in losses
    ]


def trunk_gradient(net):
    return torch.cat([p.grad.flatten() for p in net.trunk.parameters()])


@pytest.mark.parametrize("method", ["joint", "pcgrad", "cagrad", "nash-mtl", "mgda", "uncertainty"])
def test_every_loss_is_of_its_own_images(method):
    net, batch = TwoTasks(), joint_batch()
    bound = offramp.method(method).bind(net)
    expected = by_hand(TwoTasks(), batch)
    losses = bound.losses(batch)
    torch.testing.assert_close(torch.stack(list(losses)), torch.stack(expected))
    bound.backward(losses)
    gradient = trunk_gradient(net)
    twin = TwoTasks()
    one, other = rows(twin, by_hand(twin, batch))
    if method == "joint":
        torch.testing.assert_close(gradient, one + other, rtol=1e-4, atol=1e-6)
    if method == "pcgrad":
        dot = one @ other
        assert dot < 0 or torch.allclose(gradient, one + other, rtol=1e-4)
        parts = [one - dot / (other @ other) * other, other - dot / (one @ one) * one]
        if dot < 0:
            torch.testing.assert_close(gradient, sum(parts), rtol=1e-3, atol=1e-6)
    coefficients = torch.linalg.lstsq(torch.stack([one, other], 1), gradient[:, None]).solution
    torch.testing.assert_close(
        torch.stack([one, other], 1) @ coefficients, gradient[:, None], rtol=1e-3, atol=1e-5
    )  # some combination of the two rows, and nothing else


def test_statistics_of_a_decoder_come_from_its_own_set_alone():
    net, batch = TwoTasks(), joint_batch()
    offramp.method("joint").bind(net).backward(batch)
    for own, other in ((0, "b"), (1, "a")):
        alone = TwoTasks()
        alone(batch.parts["a" if other == "b" else "b"].inputs)
        torch.testing.assert_close(net.heads[own].state_dict(), alone.heads[own].state_dict(), rtol=0, atol=0)
    both = TwoTasks()
    by_hand(both, batch)  # reads b first
    assert int(net.trunk[1].num_batches_tracked) == int(both.trunk[1].num_batches_tracked) == 2


def test_a_set_in_turn_leaves_the_other_decoder_alone():
    net, batch = TwoTasks(), joint_batch()
    before = {name: value.clone() for name, value in net.heads[1].state_dict().items()}
    bound = offramp.method("cagrad").bind(net)
    values = bound.backward(batch.parts["a"])
    assert values[1].isnan()
    assert all(p.grad is None for p in net.heads[1].parameters())
    torch.testing.assert_close(dict(net.heads[1].state_dict()), before, rtol=0, atol=0)
    twin = TwoTasks()
    (row,) = rows(twin, by_hand(twin, batch)[:1])
    torch.testing.assert_close(trunk_gradient(net), row, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["joint", "cagrad"])
def test_micro_batches_of_several_sets_add_up(method):
    """Without batch norm, which normalises over a micro-batch."""
    batch = joint_batch()
    gradients = []
    for count in (1, 3):
        net = TwoTasks().eval()
        bound = offramp.method(method).bind(net)
        parts = batch.split(count)
        for number, part in enumerate(parts, 1):
            whole = {} if count == 1 else {"whole": batch, "more": number < count}
            bound.backward(part, **whole)
        gradients.append(trunk_gradient(net))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_parts_that_do_not_say_whose_targets_they_have():
    batch = joint_batch()
    plain = JointBatch({name: Batch(part.inputs, part.targets) for name, part in batch.parts.items()})
    net = TwoTasks()
    torch.testing.assert_close(
        torch.stack([*offramp.method("joint").bind(net).losses(plain)]),
        torch.stack(by_hand(TwoTasks(), batch)),
    )
    with pytest.raises(UserError, match="parts of a batch have a target in common"):
        JointBatch({"a": batch.parts["a"], "b": batch.parts["a"]})


def test_a_joint_batch_in_parts():
    batch = joint_batch()
    assert len(batch) == 13
    assert [len(part) for part in batch.first(2).parts.values()] == [2, 2]
    assert [len(part) for part in batch.portion(0.5).parts.values()] == [2, 4]
    assert [[len(p) for p in part.parts.values()] for part in batch.split(2)] == [[3, 4], [2, 4]]
    shares = [batch.share(rank, 2).parts["a"] for rank in (0, 1)]
    assert [share.targets["kind"].tolist() for share in shares] == [[0, 2, 1], [1, 0]]
    assert batch.channels_last().parts["b"].inputs.is_contiguous(memory_format=torch.channels_last)
    assert batch.to("cpu").parts["b"].keys == {"box"}
