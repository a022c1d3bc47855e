"""Budgets and latencies as a user writes them."""

import pytest

from offramp.errors import UserError
from offramp.exits.calibration.amounts import operations, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("170M", 170e6), ("1.2G", 1.2e9), ("300k", 3e5), (" 2 K ", 2000), ("1e6", 1e6), (170e6, 170e6),
        (5, 5), ("50%", 20), ("12.5 %", 5), ("1T", 1e12), (".5M", 5e5),
    ],
)  # fmt: skip
def test_operations(text, value):
    assert operations(text, 40) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "170X",
        "m",
        "170 MFLOP",
        "-3M",
        "0",
        0,
        -1,
        True,
        None,
        float("nan"),
        "nan",
        "3ms",
        ["3M"],
        "",
        "1e999",
        "1e308G",
        "1e-999",
        10**400,
        "١٧٠M",
    ],
)
def test_what_is_no_budget(text):
    with pytest.raises(UserError, match="must be operations per sample above 0"):
        operations(text, 40)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3ms", 3e-3), ("200us", 2e-4), ("200 µs", 2e-4), ("0.5s", 0.5), ("10ns", 1e-8), ("50%", 2)],
)
def test_seconds(text, value):
    assert seconds(text, 4) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", [3, 0.003, "3", "3M", "3 msec", "0ms", "-1ms", "1e999s", "1e-999s", "1e999%", None]
)
def test_what_is_no_latency(text):
    with pytest.raises(UserError, match="must be a time per sample with its unit"):
        seconds(text, 4)


def test_all_of_it_is_neither_more_nor_less():
    """From the static network's cost on nobody leaves early, so that a rounding below it would count."""
    for whole in (*range(1, 300), 37_000_001):
        assert operations("100%", whole) == whole
        assert seconds("100%", whole / 7e6) == whole / 7e6
