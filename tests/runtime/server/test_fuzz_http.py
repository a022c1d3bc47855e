"""Spoilt requests; ``FUZZ=50`` in the environment sends 50 times as many, which is 10^5."""

import os

from fuzz_http import fuzz

INPUTS = 2000 * int(os.environ.get("FUZZ", "1"))


def test_spoilt_requests_hurt_nobody(tmp_path):
    statuses = fuzz(INPUTS, 1, tmp_path / "bundle")
    assert {200, 400, 404, 405, 415} <= statuses.keys()
