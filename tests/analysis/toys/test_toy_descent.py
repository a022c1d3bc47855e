import numpy as np
import pytest
import torch
from steps import exit_step

from offramp.analysis.toys._fusion import fuse, stages_and_fusion
from offramp.analysis.toys._rules import COMBINERS, CombinerRule, Points
from offramp.analysis.toys.descent import RATE, descend
from offramp.analysis.toys.problems import CoupledProblem, Landscape, gradients
from offramp.errors import UserError
from offramp.methods import method
from offramp.methods.combiners import Backward


@pytest.fixture(scope="module")
def on_b():
    return descend(CoupledProblem(), steps=300)


@pytest.fixture(scope="module")
def on_a():
    return descend(Landscape(), steps=60, rate=0.1)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_combiner_does_here_what_it_does_to_a_net(name):
    problem = Landscape()
    net = Points(torch.tensor(problem.starts, dtype=torch.float64))
    combiner = method(name).combiner
    full, here = combiner.bind(net, 3), CombinerRule(combiner, len(net.points), 3)
    for _ in range(4):
        losses = [loss for point in net.points for loss in problem.losses(point).unbind()]
        full(losses, exit_step(net, losses, torch.zeros(1)), Backward())
        points = torch.stack(list(net.points)).detach()
        expected = torch.stack([point.grad for point in net.points])
        np.testing.assert_allclose(here(gradients(problem, points)[1]), expected, rtol=1e-10, atol=1e-12)
        for point in net.points:
            point.data -= 0.3 * point.grad
            point.grad = None


@pytest.mark.parametrize(
    ("name", "sums"),
    [
        ("joint", [1.97, 1.90, 1.72]),
        ("cagrad", [1.96, 1.88, 1.67]),
        ("pcgrad", [1.94, 1.81, 1.48]),
        ("dominance", [1.48, 0.73, 0.099]),
    ],
)
def test_the_sums_of_b_after_30_100_and_300_steps(on_b, name, sums):
    (row,) = [row for row in on_b.summary() if row["method"] == name]
    assert list(row["sum"]) == ["30", "100", "300"]
    assert list(row["sum"].values()) == pytest.approx(sums, abs=0.005)


def test_closed_forms_of_b(on_b):
    # with w = (u, -u) both residuals are 1 - (1 - delta) u; dominance loses 0.1 (1 - delta) of it at a step
    last = dict(zip(on_b.methods, on_b.points[-1, :, 0].tolist(), strict=True))
    for name, factor in (("joint", 0.1 * 0.05**2), ("dominance", 0.1 * 0.05)):
        u = (1 - (1 - factor) ** 300) / 0.05
        assert last[name] == pytest.approx([u, -u], rel=1e-9)
    assert last["task 1"] == pytest.approx([1 / (1 + 0.95**2), 0.95 / (1 + 0.95**2)], rel=1e-6)


def test_all_that_descend_on_the_sum_of_b_get_there():
    found = descend(CoupledProblem(0.4), steps=400)
    for name, (distance,) in zip(found.methods, found.distances().tolist(), strict=True):
        assert (distance > 1) if name.startswith("task") else (distance < 0.02), name


def test_the_first_step_of_adam_has_the_rate_s_length(on_a):
    first = descend(Landscape(), steps=1, rate=0.1)
    for name, way in zip(first.methods, first.points.unbind(1), strict=True):
        if name != "dr-mgf":
            moved = (way[1] - way[0]).abs()
            assert ((moved - 0.1).abs() < 1e-3).logical_or(moved < 1e-3).all(), name
    assert on_a.points.shape == (len(on_a.steps), 12, 3, 2)


def test_the_sum_stalls_in_the_valleys_of_a_as_published():
    points = torch.tensor(Landscape().starts, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([points], lr=RATE["a"])
    for _ in range(3000):
        points.grad = gradients(Landscape(), points)[1].sum(-2)
        adam.step()
    first, below, second = points.detach()
    assert first[0].item() == pytest.approx(-5, abs=0.5)
    assert second[0].item() == pytest.approx(5, abs=0.5)
    assert min(first[1], second[1]) > 1
    assert below[1] < -7.5  # where there is no valley it arrives


def test_distance_on_a_is_that_to_the_bottom_valley(on_a):
    for s, row in enumerate(on_a.summary()[:3]):
        x1, x2 = on_a.points[-1, 0, s].tolist()
        assert row["distance"] == pytest.approx(np.hypot(max(abs(x1) - 7, 0), x2 + 8.39), abs=0.1)


def test_fusion_is_a_mean_of_the_ends_in_which_the_start_does_not_count():
    ends, scales = torch.rand(3, 2, 2, dtype=torch.float64), torch.rand(3, 2, 2, dtype=torch.float64)
    expected = (scales * ends).sum(1) / scales.sum(1)
    for start in (torch.zeros(3, 2), torch.rand(3, 2, dtype=torch.float64)):
        np.testing.assert_allclose(fuse(start, ends, scales), expected)


def test_fusion_learns_who_prefers_which_parameter():
    epochs = list(stages_and_fusion(CoupledProblem(), epochs=20, rate=0.05))
    assert len(epochs) == 20
    shares = epochs[-1].shares[0]
    assert shares.diagonal().min() > 0.95
    np.testing.assert_allclose(shares.sum(0), [1, 1])


def test_a_stage_steps_on_its_task_and_a_part_of_the_other():
    (epoch,) = stages_and_fusion(CoupledProblem(), epochs=1, rate=0.05, beta=0.4, length=1)
    rows = np.array([[-2, -1.9], [1.9, 2]])
    expected = -0.05 * np.array([rows[0] + 0.4 * rows[1], rows[1] + 0.4 * rows[0]])
    np.testing.assert_allclose(epoch.ends[0], expected)


def test_dr_mgf_moves_at_the_end_of_an_epoch(on_b):
    way = on_b.points[:, -1, 0]
    moved = [step for step, a, b in zip(on_b.steps[1:], way[:-1], way[1:], strict=True) if not a.equal(b)]
    assert len(on_b.epochs) == 60
    assert moved
    assert all(step % 5 == 0 for step in moved)


def test_dr_mgf_gets_to_the_best_point_of_b():
    *_, last = stages_and_fusion(CoupledProblem(), epochs=400, rate=0.05)
    assert last.points[0].tolist() == pytest.approx([20, -20], rel=0.05)  # joint is not half way there then


def test_dr_mgf_takes_three_times_the_passes(on_b):
    passes = {row["method"]: row["passes"] for row in on_b.summary()}
    assert passes.pop("dr-mgf") == 900
    assert set(passes.values()) == {300}


def test_same_seed_same_ways():
    one, two, other = (descend(CoupledProblem(), steps=20, seed=seed).points for seed in (0, 0, 1))
    assert one.equal(two)
    assert not one.equal(other)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"beta": 2.0}, "beta is 2.0"),
        ({"length": 0}, "length is 0"),
        ({"rate": 1e6, "steps": 100}, "the descent diverged"),
    ],
)
def test_numbers_that_cannot_be(wrong, message):
    with pytest.raises(UserError, match=message):
        descend(CoupledProblem(), **wrong)
