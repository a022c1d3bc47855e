"""A net that gives several tasks at once has no exits to leave by, and one line says what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import offramp
from offramp import UserError
from offramp.exits import ExitLogits, PathCosts, Policy, StreamingRouter
from offramp.tasks import Depth, Segmentation


@pytest.fixture
def net():
    decoders = {"what": (nn.Conv2d(4, 5, 1), Segmentation()), "depth": (nn.Conv2d(4, 1, 1), Depth())}
    return offramp.multi_task(nn.Conv2d(3, 4, 3, padding=1), decoders, input_size=(3, 8, 8))


@pytest.mark.parametrize(
    "ask",
    [
        lambda net: offramp.Router(net, Policy.full(2)),
        lambda net: StreamingRouter(net, Policy.full(2)),
        lambda net: Policy.full(2).check(net),
        lambda net: offramp.calibrate(net, [(torch.zeros(2, 3, 8, 8), torch.zeros(2).long())], budget="50%"),
        lambda net: ExitLogits.of(net, [(torch.zeros(2, 3, 8, 8), torch.zeros(2).long())]),
        lambda net: PathCosts(net),
    ],
    ids=["Router", "StreamingRouter", "Policy.check", "calibrate", "ExitLogits", "PathCosts"],
)
def test_it_is_refused_in_one_line(net, ask):
    with pytest.raises(
        UserError, match=r"has no exits in a row; call it for all its outputs at once"
    ) as error:
        ask(net)
    assert "(what, depth), which `offramp eval` measures" in str(error.value)
    assert "\n" not in str(error.value)
