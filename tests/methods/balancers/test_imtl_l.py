"""IMTL-L against uncertainty weighting, TorchJD's IMTLL and its fixed point."""

import pytest
import torch
from steps import exit_step
from torchjd.scalarization import IMTLL as TorchJDs

from offramp import UserError
from offramp.methods import METHODS, method
from offramp.methods.balancers.imtl_l import IMTLL
from offramp.methods.balancers.uncertainty import Uncertainty
from offramp.nets import vgg7

LOSSES = torch.tensor([3.0, 1.0, 0.25, 0.5, 2.0, 1.5], dtype=torch.float64)
SIX, TWO = (exit_step(None, [torch.zeros(())] * count, torch.tensor([])) for count in (6, 2))
SCALES = torch.linspace(-1, 1, 6).double()


def at_work(log_scales=None):
    learned = IMTLL().bind(vgg7(num_classes=5, width=4)).double()
    if log_scales is not None:
        learned.log_scales.data = log_scales.clone()
    return learned


def test_it_is_twice_uncertainty_weighting_at_the_opposite_scales():
    other = Uncertainty().bind(vgg7(num_classes=5, width=4)).double()
    other.log_variances.data = -SCALES
    found = torch.stack(at_work(SCALES)(LOSSES.unbind(), SIX))
    torch.testing.assert_close(found, 2 * torch.stack(other(LOSSES.unbind(), SIX)))


def test_the_sum_and_its_gradients_are_torchjds():
    learned, theirs = at_work(SCALES), TorchJDs(6).double()
    theirs.log_scale.data = SCALES.clone()
    ours_of, theirs_of = (LOSSES.clone().requires_grad_() for _ in range(2))
    total, expected = torch.stack(learned(ours_of.unbind(), SIX)).sum(), theirs(theirs_of)
    total.backward()
    expected.backward()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(learned.log_scales.grad, theirs.log_scale.grad)
    torch.testing.assert_close(ours_of.grad, theirs_of.grad)


def test_the_weighted_losses_that_stand_still_go_to_one():
    learned = at_work()
    adam = torch.optim.Adam(learned.parameters(), lr=0.05)
    for k in range(3000):
        adam.param_groups[0]["lr"] = 0.05 * 0.997**k
        adam.zero_grad()
        torch.stack(learned(LOSSES.unbind(), SIX)).sum().backward()
        adam.step()
    torch.testing.assert_close(learned.log_scales.exp() * LOSSES, torch.ones(6).double(), atol=1e-6, rtol=0)


def test_what_cannot_be():
    with pytest.raises(UserError, match="log_scale_lr is 0, must be a number above 0"):
        method("imtl-l", {"log_scale_lr": 0})
    with pytest.raises(UserError, match="imtl-l divides each loss by its size, and loss 2 is -1"):
        at_work()([torch.tensor(1.0), torch.tensor(-1.0)], TWO)


def test_the_row_and_the_hybrid_of_the_paper():
    assert METHODS["imtl-l"].axes == {"balancer": "IMTLL"}
    assert method("imtl-l+imtl").axes == {"balancer": "IMTLL", "combiner": "IMTL"}
