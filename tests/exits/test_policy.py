"""A policy's file, and what a policy may hold."""

import json

import pytest
import torch

import offramp
from offramp.errors import UserError
from offramp.exits import Ensemble, Policy, Router
from offramp.exits._fingerprint import fingerprint

POLICIES = [
    Policy((0.5, None, 0.25)),
    Policy((0.5, (0.1, 0.2), 1e8), "margin", (1.0, 2.0, 0.5, 1.5), net="00ff", calibration={"samples": 3}),
    Policy((3, 2), "patience"),
    Policy((0.5,), "ensemble", ensemble=Ensemble(((1.0, 0.0), (0.25, 0.75)), ((0.0, 0.0), (0.5, -0.5)))),
]


def net(seed: int = 0) -> offramp.MultiExitNet:
    torch.manual_seed(seed)
    return offramp.nets.vgg7(width=1, num_classes=3)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_is_its_file(policy, tmp_path):
    policy.save(tmp_path / "policy.json")
    again = Policy.open(tmp_path / "policy.json")
    assert again == policy and hash(again.thresholds) == hash(policy.thresholds)
    assert json.loads((tmp_path / "policy.json").read_text())["offramp_policy"] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"thresholds": ()}, "a threshold for each exit but the last"),
        ({"thresholds": ("high",)}, "the threshold of exit 1 is 'high'"),
        ({"thresholds": (0.5, float("nan"))}, "the threshold of exit 2 is nan"),
        ({"thresholds": (0.5, ())}, "the threshold of exit 2"),
        ({"thresholds": (0.5,), "confidence": "entrpy"}, r"no confidence 'entrpy' \(did you mean 'entropy'"),
        ({"thresholds": (0.5,), "temperatures": (1.0,)}, "must be 2 numbers above 0"),
        ({"thresholds": (0.5,), "temperatures": (1.0, 0.0)}, "must be 2 numbers above 0"),
        ({"thresholds": (0.5,), "confidence": "ensemble"}, "belong together"),
    ],
)
def test_what_cannot_be_gives_one_line(fields, message):
    with pytest.raises(UserError, match=message):
        Policy(**fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON file"),
        ("[]", "is no policy"),
        ('{"thresholds": [0.5]}', "is no policy"),
        ('{"offramp_policy": 9, "thresholds": [0.5]}', "format 9, not 1"),
        ('{"offramp_policy": 1}', "thresholds are a list"),
        ('{"offramp_policy": 1, "thresholds": [0.5], "temperature": 1}', "no 'temperature' .did you mean"),
        ('{"offramp_policy": 1, "thresholds": ["a"]}', "the threshold of exit 1"),
        ('{"offramp_policy": 1, "thresholds": [0.5], "temperatures": 3}', "temperatures"),
    ],
)
def test_a_file_that_is_no_policy_gives_one_line(text, message, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        Policy.open(path)
    with pytest.raises(UserError, match="cannot read the policy"):
        Policy.open(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot read the policy"):
        Policy.open(tmp_path)


def test_a_policy_is_refused_by_other_nets():
    policy = Policy((0.5,) * 5, net=fingerprint(net()))
    Router(net(), policy)
    Router(net().bfloat16(), policy)
    Router(net().to(memory_format=torch.channels_last), policy)
    with pytest.raises(UserError, match="other weights than this net has"):
        Router(net(seed=1), policy)
    with pytest.raises(UserError, match="for 2 exits, the net has 6"):
        Router(net(), Policy((0.5,)))
