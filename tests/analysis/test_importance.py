from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from offramp.analysis import (
    GradientNorms,
    Importance,
    Pruning,
    TaskGradients,
    own_counts,
    own_filters,
    pruned,
    pruning_matrix,
    route_importance,
)


@dataclass(frozen=True)
class Route:
    owners: tuple[int, ...]
    importance: Tensor
    scale: Tensor


def gradients(seed):
    g = torch.Generator().manual_seed(seed)
    a, b = ({"w": torch.randn(4, 2, 3, 3, generator=g), "b": torch.randn(4, generator=g)} for _ in range(2))
    return TaskGradients((1.0, 1.0, 1.0), (a, {"w": b["w"]}, {}), losses_now=lambda: (0.0, 0.0, 0.0))


@pytest.mark.parametrize("unit", ["out_channel", "kernel"])
def test_importance_is_eq_5(unit):
    norms = GradientNorms(unit)
    batches = [gradients(seed) for seed in range(3)]
    for batch in batches:
        norms.add(batch)
    found = norms.importance()
    assert found["w"].owners == (0, 1)
    assert found["b"].owners == (0,)
    axes = (2, 3) if unit == "kernel" else (1, 2, 3)
    sums = [
        sum(np.sqrt(np.square(b.gradients[k]["w"].double().numpy()).sum(axes)) for b in batches)
        for k in (0, 1)
    ]
    bias = sum(np.abs(b.gradients[0]["b"].double().numpy()) for b in batches)
    totals = [np.square(sums[0]).sum() + np.square(bias).sum(), np.square(sums[1]).sum()]
    for k in (0, 1):
        np.testing.assert_allclose(found["w"].scores[k].numpy(), np.square(sums[k]) / totals[k], rtol=1e-12)
    np.testing.assert_allclose(found["b"].scores[0].numpy(), np.square(bias) / totals[0], rtol=1e-12)


def test_the_size_of_a_loss_does_not_matter():
    one, other = GradientNorms(), GradientNorms()
    for seed in range(2):
        found = gradients(seed)
        one.add(found)
        louder = [{n: 50 * v for n, v in found.gradients[0].items()}, *found.gradients[1:]]
        other.add(TaskGradients(found.losses, tuple(louder), found.losses_now))
    torch.testing.assert_close(one.importance()["w"].scores, other.importance()["w"].scores)


SHAPES = {"stage 1": (64, 3, 3, 3), "norm 1": (64,), "stage 2": (128, 64, 3, 3), "stage 3": (128, 128, 3, 3)}
OWNERS = {"stage 1": range(4), "norm 1": range(4), "stage 2": range(1, 4), "stage 3": range(2, 4)}


def random_gradients(seed):
    """Four outputs in a row that prefer nothing: every number from one normal distribution."""
    g = torch.Generator().manual_seed(seed)
    found = [{n: torch.randn(s, generator=g) for n, s in SHAPES.items() if k in OWNERS[n]} for k in range(4)]
    return TaskGradients((1.0,) * 4, tuple(found), losses_now=lambda: (0.0,) * 4)


def test_by_eq_5_the_first_output_owns_the_first_stage_whatever_its_gradients_are():
    norms = GradientNorms()
    for seed in range(5):
        norms.add(random_gradients(seed))
    first = (0, 1, 2, 3)
    assert own_filters(norms.importance(), 0)["stage 1"].sum() == 64
    among_same = norms.importance(same_owners=True)
    assert 8 <= own_filters(among_same, 0)["stage 1"].sum() <= 26  # a quarter is 16, sigma 3.5
    counts = own_counts(among_same, 4)
    assert sum(counts[first]) == 128 and counts[2, 3][:2] == (0, 0)


@pytest.mark.parametrize("same_owners", [False, True])
def test_the_chance_level_is_what_random_gradients_give(same_owners):
    """Against gradients that are drawn number by number, 20 times over."""
    norms = GradientNorms()
    for seed in range(3):
        norms.add(random_gradients(seed))
    slow = []
    for draw in range(20):
        null = GradientNorms()
        for batch in range(3):
            null.add(random_gradients(1000 + 3 * draw + batch))
        slow.append(own_counts(null.importance(same_owners=same_owners), 4))
    quick = [own_counts(norms.by_chance(s).importance(same_owners=same_owners), 4) for s in range(20)]
    for owners in slow[0]:
        a, b = (torch.tensor([c[owners] for c in counts]).double() for counts in (slow, quick))
        assert torch.allclose(a.mean(0), b.mean(0), rtol=0, atol=6)  # sigma of a mean is below 1.3
        if not same_owners and owners == (0, 1, 2, 3):
            assert a.mean(0)[0] > 100  # of 128: the norm's elements, of one number each, are noisier
        if same_owners:
            assert torch.allclose(b.mean(0)[list(owners)], b.mean(0).sum() / len(owners), rtol=0, atol=6)


def test_among_the_same_owners_the_scores_of_a_stage_sum_to_one():
    norms = GradientNorms()
    norms.add(random_gradients(0))
    found = norms.importance(same_owners=True)
    one = found["stage 1"].scores.sum(1) + found["norm 1"].scores.sum(1)
    torch.testing.assert_close(one, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(found["stage 3"].scores.sum(1), torch.ones(2, dtype=torch.float64))


def test_learned_importance_is_a_share_of_its_row():
    nu = torch.tensor([[[1.0, 3.0], [2.0, 2.0]], [[5.0, 0.0], [1.0, 9.0]]])
    scale = torch.tensor([[[1.0, 1.0], [2.0, 1.0]], [[1.0, 1.0], [1.0, -3.0]]])
    routes = {"w": Route((1, 4), nu, scale)}
    plain = route_importance(routes)["w"]
    assert plain.owners == (1, 4)
    expected = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[1.0, 0.0], [0.1, 0.9]]], dtype=torch.float64)
    torch.testing.assert_close(plain.scores, expected, rtol=1e-9, atol=0)
    fused = torch.tensor([[[0.25, 0.75], [1.0, 0.5]], [[1.0, 0.0], [0.1, 2.7]]], dtype=torch.float64)
    torch.testing.assert_close(route_importance(routes, fusion=True)["w"].scores, fused, rtol=1e-9, atol=0)


@pytest.mark.parametrize("ratio", [1.0, 1.1])
def test_own_filters_are_those_that_no_other_owner_needs_as_much(ratio):
    scores = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores[:, 0, 0] = 0.5  # a tie is nobody's
    scores[:, 0, 1] = torch.tensor([0.5, 0.52, 0.1])  # 4 % more
    importance = {"w": Importance((0, 2, 5), scores), "v": Importance((1, 2), torch.eye(2).double())}
    for row, k in enumerate((0, 2, 5)):
        mask = own_filters(importance, k, ratio=ratio)["w"]
        for i in range(5):
            for j in range(4):
                column = scores[:, i, j].tolist()
                mine = column.pop(row)
                assert mask[i, j] == all(mine > ratio * other for other in column)
    assert set(own_filters(importance, 1)) == {"v"}
    assert own_filters(importance, 2)["v"].tolist() == [False, True]
    assert bool(own_filters(importance, 2, ratio=ratio)["w"][0, 1]) == (ratio == 1)


@pytest.fixture
def layers():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)).to(
        memory_format=torch.channels_last
    )
    net.register_parameter("alpha", nn.Parameter(torch.tensor(0.3)))
    return net


def test_pruned_filters_are_zero_for_a_while(layers):
    masks = {
        "0.weight": torch.tensor([[True, False], [False, False], [False, True]]),  # kernels
        "1.weight": torch.tensor([False, True, False]),
        "2.weight": torch.tensor([True, False]),  # an output channel
        "alpha": torch.tensor([True]),
    }
    before = {name: p.detach().clone() for name, p in layers.named_parameters()}
    with pytest.raises(KeyError), pruned(layers, masks):
        now = dict(layers.named_parameters())
        assert (now["0.weight"][0, 0] == 0).all() and (now["0.weight"][2, 1] == 0).all()
        assert (now["0.weight"] == 0).sum() == 2 * 9
        assert now["1.weight"].tolist() == [1, 0, 1]
        assert (now["2.weight"][0] == 0).all() and (now["2.weight"][1] != 0).all()
        assert now["alpha"] == 0
        assert torch.equal(now["0.bias"], before["0.bias"])
        raise KeyError
    assert all(torch.equal(p, before[name]) for name, p in layers.named_parameters())


def test_pruning_matrix_is_the_relative_change(layers):
    """Output j is as good as a channel of the norm's weight is large, so what it loses is known."""
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.1, 0.9, 0.4]], dtype=torch.float64)
    layers[1].weight.data = torch.tensor([1.0, 2.0, 3.0])
    before = layers[1].weight.detach().clone()

    def accuracy():
        one, two, three = layers[1].weight.tolist()
        return [10 * one + three, 20 * two + three]

    found = pruning_matrix(layers, {"1.weight": Importance((0, 1), scores)}, accuracy)
    assert found.filters == (2, 1)
    assert found.shared == 3
    assert found.accuracy == (13, 43)
    np.testing.assert_allclose(found.change, [[-1, -3 / 43], [0, -40 / 43]], rtol=1e-12, atol=1e-15)
    assert found.diagonal == (True, True)
    assert torch.equal(layers[1].weight, before)


def test_the_published_picture_is_a_softmax():
    change = ((-0.02, -0.01, 0.0), (-0.01, -0.01, 0.0), (0.0, -0.05, -0.03))
    pruning = Pruning(change, (1, 1, 1), 3, (50.0, 50.0, 50.0))
    powers = np.exp(-100 * np.array(change))
    np.testing.assert_allclose(pruning.as_published, powers / powers.sum(1, keepdims=True), rtol=1e-12)
    assert pruning.diagonal == (True, False, False)  # in the second row two lose alike


def test_no_accuracy_has_nothing_to_lose(layers):
    assert pruning_matrix(layers, {}, lambda: [3.0, 0.0]).change == ((0, 0), (0, 0))


def test_a_pruning_matrix_knows_its_chance_level(layers):
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.1, 0.9, 0.4]], dtype=torch.float64)
    nulls = [{"1.weight": Importance((0, 1), draw)} for draw in (scores, scores.flip(0))]
    found = pruning_matrix(layers, {"1.weight": Importance((0, 1), scores)}, lambda: [1.0, 1.0], nulls=nulls)
    (stage,) = found.stages
    assert (stage.owners, stage.filters, stage.own, stage.chance) == ((0, 1), 3, (2, 1), (1.5, 1.5))
    assert found.chance == (1.5, 1.5)
    assert pruning_matrix(layers, nulls[0], lambda: [1.0, 1.0]).chance is None


def test_a_loss_is_negative_where_a_lower_metric_is_better(layers):
    scores = torch.tensor([[9.0, 1, 1], [1, 9, 1]])

    def errors():
        """The sums of the weights of two filters, which are 0 while they are pruned."""
        weight = layers[1].weight.detach()
        return [1 + float((weight[k] == 0).all()) for k in range(2)]

    found = pruning_matrix(
        layers, {"1.weight": Importance((0, 1), scores)}, errors, better=["lower", "lower"]
    )
    assert found.change == ((-1, 0), (0, -1))
    assert found.diagonal == (True, True)
