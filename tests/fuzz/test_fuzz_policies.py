"""Policies: JSON files of thresholds, damaged, or readable and wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junk import json_values, mutated, spoilt
from oracle import command, examples, works

from offramp.exits import Policy

POLICY = {
    "offramp_policy": 1,
    "thresholds": [None, 0.1, [0.5, 0.25], None, -1e8],
    "confidence": "max-softmax",
    "temperatures": [1.0] * 6,
    "ensemble": None,
    "net": None,
    "calibration": {
        "data": "digits", "split": "val", "digest": "e6fb41ffea2d9543", "samples": 4,
        "target": {"budget": 138907.2, "convention": "thop", "rule": "best"},
        "achieved": {"accuracy": 0.5, "full_accuracy": 0.0, "cost": 129580.0, "exits": [0, 1, 0, 0, 0, 0]},
    },
}  # fmt: skip
ENSEMBLE = {
    **POLICY,
    "confidence": "ensemble",
    "ensemble": {"weights": [[1.0] * (k + 1) for k in range(6)], "log_bias": [[0.0, 0.0]] * 6},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("policies") / "policy.json"


def comes_back(policy, file):
    """A policy that is accepted is the same after it is saved."""
    policy.save(file)
    assert repr(Policy.open(file)) == repr(policy)


@examples(70)
@given(data=st.data(), content=st.sampled_from([POLICY, ENSEMBLE]))
def test_content(file, data, content):
    file.write_bytes(json.dumps(data.draw(mutated(content, json_values))).encode())
    policy = works(Policy.open, file)
    if policy is not None:
        works(comes_back, policy, file)


@examples(20)
@given(data=st.data())
def test_bytes(file, data):
    file.write_bytes(data.draw(spoilt(json.dumps(POLICY).encode())))
    works(Policy.open, file)


@examples(10)
@given(data=st.data())
def test_evaluating_by_one(good, file, data):
    content = {**POLICY, "thresholds": [None, 0.1, 0.2, None, 0.3]}
    file.write_bytes(json.dumps(data.draw(mutated(content, json_values))).encode())
    command("eval", str(good), "--policy", str(file), notes=True)
