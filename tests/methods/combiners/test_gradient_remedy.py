"""Gradient remedy against numbers worked out by hand, its invariants, and a loop over a net's tensors."""

import pytest
import torch
from jacobian_cases import PLAIN, batch, build, forward, groups, losses_of, plain_loop

from offramp import UserError
from offramp.methods import METHODS, method
from offramp.methods.combiners.gradient_remedy import GradientRemedy, remedied


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize(
    ("auxiliary", "expected"),
    [
        ((-3.0, 4.0), (0.8 + 1, 4.0)),  # turned: (0, 4), and 4 / (5 / 1) along a; not over 5 times as long
        ((8.0, 6.0), (0.8 * 8 + 1 / 0.8, 0.8 * 6)),  # too long: times the cosine, and a over it
        ((0.0, 9.0), (1.0, 9.0)),  # neither opposes nor agrees
        ((2.0, 1.0), (3.0, 1.0)),
        ((0.0, 0.0), (1.0, 0.0)),
    ],
)
def test_the_sum_of_two_gradients(auxiliary, expected):
    torch.testing.assert_close(remedied(vector(1.0, 0.0), vector(*auxiliary), 5.0), vector(*expected))


def test_the_new_angle_and_the_product_of_the_lengths():
    draws = torch.Generator().manual_seed(0)
    turned = lengthened = 0
    for scale in (1.0, 20.0):
        for _ in range(50):
            a, s = torch.randn(2, 7, generator=draws, dtype=torch.float64).unbind()
            s = scale * s
            apart = remedied(a, s, 1e9) - a  # without a bound on the lengths this is the turned s
            if s @ a < 0:
                turned += 1
                along, across = apart @ a / a.norm(), apart - (apart @ a) / a.square().sum() * a
                torch.testing.assert_close(across.norm() / along, s.norm() / a.norm())
            c = apart @ a / apart.norm() / a.norm()
            if apart.norm() > 5 * a.norm() and c > 0.2:
                lengthened += 1
                torch.testing.assert_close(remedied(a, s, 5.0), c * apart + a / c)
    assert turned > 20 and lengthened > 3


def test_a_small_cosine_does_not_make_the_primary_endless():
    found = remedied(vector(1.0, 0.0), vector(1e-9, 100.0), 5.0)
    torch.testing.assert_close(found, vector(5.0, 20.0))


def test_without_a_primary_gradient_the_others_are_left_alone():
    torch.testing.assert_close(remedied(vector(0.0, 0.0), vector(-3.0, 4.0), 5.0), vector(-3.0, 4.0))


@pytest.mark.parametrize("granularity", ["tensor", "group"])
def test_a_step_is_the_remedy_of_each_tensor(granularity):
    net = build("vgg7").double()
    step = forward(net, *batch("vgg7", net))
    rows = plain_loop(net, losses_of(step))
    net.zero_grad()
    running = GradientRemedy(granularity=granularity).bind(net)
    step = forward(net, *batch("vgg7", net))
    running(losses_of(step), step, PLAIN)
    named, last = dict(net.named_parameters()), len(net.outputs) - 1
    for owners, names in groups(net, "per_stage").items():
        pieces = [[name] for name in names] if granularity == "tensor" else [names]
        for piece in pieces:
            a, s = (
                torch.cat([
                    sum((rows[k][n] for k in which if n in rows[k]), torch.zeros_like(named[n])).flatten()
                    for n in piece
                ])
                for which in ([last], [k for k in owners if k != last])
            )  # fmt: skip
            found = torch.cat([named[n].grad.flatten() for n in piece])
            torch.testing.assert_close(found, remedied(a, s, 5.0))


def test_the_primary_output_is_given_by_name():
    net = build("vgg7").double()
    first = next(iter(net.outputs))
    assert GradientRemedy(primary=first).bind(net).primary == 0
    with pytest.raises(
        UserError, match=r"the net has no output 'exit 9'.*; primary is one of exit 1, exit 2"
    ):
        GradientRemedy(primary="exit 9").bind(net)


@pytest.mark.parametrize(
    "options", [{"primary": 3}, {"max_ratio": 1}, {"granularity": "layer"}, {"shared": "none"}]
)
def test_what_cannot_be(options):
    (option,) = options
    with pytest.raises(UserError, match=f"{option} is "):
        method("gradient-remedy", options)


def test_the_row():
    assert METHODS["gradient-remedy"].axes == {"combiner": "GradientRemedy"}
    assert METHODS["gradient-remedy"].needs == {"rows", "trunk"}
