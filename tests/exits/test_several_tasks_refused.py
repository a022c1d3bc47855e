"""A net whose outputs do not tell classes apart, exit by exit, is refused in a line that says what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import offramp
from offramp import UserError
from offramp.exits import ExitLogits, PathCosts, Policy, StreamingRouter
from offramp.nets import MultiExitNet
from offramp.tasks import Depth, MultiLabel, Regression, Segmentation


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
        lambda net: offramp.export(net, Policy.full(2), "nowhere"),
        lambda net: offramp.calibrate(net, [(torch.zeros(2, 3, 8, 8), torch.zeros(2).long())], budget="50%"),
        lambda net: ExitLogits.of(net, [(torch.zeros(2, 3, 8, 8), torch.zeros(2).long())]),
        lambda net: PathCosts(net),
    ],
    ids=["Router", "StreamingRouter", "Policy.check", "export", "calibrate", "ExitLogits", "PathCosts"],
)
def test_it_is_refused_in_one_line(net, ask):
    with pytest.raises(
        UserError, match=r"has no exits in a row; call it for all its outputs at once"
    ) as error:
        ask(net)
    assert "(what, depth), which `offramp eval` measures" in str(error.value)
    assert "\n" not in str(error.value)


def exits(*widths, task=None):
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(4, width)) for width in widths]
    return MultiExitNet([nn.Identity() for _ in widths], heads, input_size=(4,), task=task)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (exits(3, 3, task=Regression()), "exit 1 has the task Regression, and samples leave by"),
        (exits(3, 3, task=MultiLabel()), "exit 1 has the task MultiLabel, and samples leave by"),
        (exits(3, 4), r"exit 1 gives \[3, 3\] for 3 samples, and samples leave by logits \[N, classes\]"),
        (
            MultiExitNet([nn.Identity()] * 2, [nn.Conv2d(3, 5, 1)] * 2, input_size=(3, 8, 8)),
            r"gives \[3, 5, 8, 8\]",
        ),
    ],
)
def test_exits_that_do_not_tell_classes_apart_are_refused(net, says, tmp_path):
    for ask in (offramp.Router, lambda net, policy: offramp.export(net, policy, tmp_path / "bundle")):
        with pytest.raises(UserError, match=says):
            ask(net, Policy((0.5,)))
