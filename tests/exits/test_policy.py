"""A policy's file, and what a policy may hold."""

import json

import pytest
import torch

import offramp
from offramp.errors import UserError
from offramp.exits import Ensemble, ExitLogits, Policy, Router, decide
from offramp.exits._fingerprint import fingerprint

ENSEMBLE = Ensemble(((1.0, 0.0), (0.25, 0.75)), ((0.0, 0.0), (0.5, -0.5)))
POLICIES = [
    Policy((0.5, None, 0.25)),
    Policy((0.5, (0.1, 0.2), 1e8), "margin", (1.0, 2.0, 0.5, 1.5), net="00ff", calibration={"samples": 3}),
    Policy((3, 2), "patience"),
    Policy((0.5,), "ensemble", ensemble=ENSEMBLE),
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
        ({"thresholds": 0.5}, "thresholds are 0.5, must be a list"),
        ({"thresholds": ((0.5, 0.5), (0.5, 0.5, 0.5))}, "for 2 and 3 classes"),
        ({"thresholds": (0.5,), "confidence": "ensemble"}, "belong together"),
        ({"thresholds": (0.5,), "ensemble": ENSEMBLE}, "belong together"),
        ({"thresholds": (0.5,), "confidence": "ensemble", "ensemble": 3}, "must be an Ensemble"),
        ({"thresholds": (0.5, 0.5), "confidence": "ensemble", "ensemble": ENSEMBLE}, "weights of 2 exits"),
        (
            {"thresholds": ((0.1, 0.2, 0.3),), "confidence": "ensemble", "ensemble": ENSEMBLE},
            "for 2 and 3 classes",
        ),
        ({"thresholds": (0.5,), "confidence": ["entropy"]}, r"no confidence \['entropy'\]"),
        ({"thresholds": (0.5,), "net": 7}, "net is 7"),
        ({"thresholds": (0.5,), "calibration": 5}, "calibration is 5, must be a mapping"),
    ],
)
def test_what_cannot_be_gives_one_line(fields, message):
    with pytest.raises(UserError, match=message):
        Policy(**fields)


@pytest.mark.parametrize(
    ("weights", "log_bias"),
    [
        (3, [[0.0]]),
        ([3], [[0.0]]),
        ([[1.0]], "x"),
        ([[1.0]], [["x"]]),
        ([], []),
        ([[1.0]], [[]]),
        ([[1.0, 0.0], [0.5, 0.5]], [[0.0, 0.0], []]),
        ([[1.0, 0.0], [0.5, 0.5]], [[0.0, 0.0], [0.0]]),
        ([[1.0, 0.0], [0.5, 0.5]], [[0.0, 0.0]]),
        ([[1.0, 0.0]], [[0.0, 0.0]]),
    ],
)
def test_what_is_no_ensemble_gives_one_line(weights, log_bias):
    with pytest.raises(UserError, match="ensemble"):
        Ensemble(weights, log_bias)


@pytest.mark.parametrize(
    "policy",
    [
        Policy((None, (0.1, 0.2))),
        Policy((0.5,), "ensemble", ensemble=ENSEMBLE),
    ],
)
def test_a_policy_for_each_class_is_refused_by_nets_of_others(policy):
    policy.check_classes(2)
    with pytest.raises(UserError, match="the policy is for 2 classes, the net tells 3 apart"):
        policy.check_classes(3)
    logits = torch.randn(policy.num_exits, 4, 3)
    with pytest.raises(UserError, match="the policy is for 2 classes, the net tells 3 apart"):
        decide(ExitLogits(logits, torch.zeros(4, dtype=torch.int64)), policy)


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
        ('{"offramp_policy": 1, "thresholds": [0.5], "confidence": ["x"]}', "no confidence"),
        ('{"offramp_policy": 1, "thresholds": [0.5], "calibration": 5}', "calibration is 5"),
        ('{"offramp_policy": 1, "thresholds": [0.5], "net": 7}', "net is 7"),
        (
            '{"offramp_policy": 1, "thresholds": [0.5], "confidence": "ensemble", "ensemble": "x"}',
            "ensemble is 'x', must be",
        ),
        ('{"offramp_policy": 1, "thresholds": [0.5], "ensemble": {"weights": 3}}', "belong together"),
        (
            '{"offramp_policy": 1, "thresholds": [1], "confidence": "ensemble", "ensemble": {"weights": 3}}',
            "in a file its weights and log_bias",
        ),
        ('{"offramp_policy": 1, "thresholds": [0.5], "ensemble": {"weights": 3, "log_bias": 3}}', "weights"),
        ("[" * 100_000, "no JSON file"),
    ],
)
def test_a_file_that_is_no_policy_gives_one_line(text, message, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        Policy.open(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
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
