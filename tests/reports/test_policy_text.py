import pytest

from offramp.exits import Policy
from offramp.exits.evaluation import PolicyResult
from offramp.reports.policy_text import policy_text, result_text


def test_thresholds_are_numbers_or_words():
    lines = policy_text(Policy((0.25, None, 1e8, -1e8, (0.5, 1e8), (1e8, 1e8)))).splitlines()
    shown = ["0.25", "not evaluated", "none leaves", "all leave"]
    shown += ["0.5 to none leaves by class", "none leaves by class", "all leave"]
    rows = [line for line in lines if line.strip()[:1].isdigit()]
    assert len(rows) == len(shown)
    for row, words in zip(rows, shown, strict=True):
        assert f" {words} " in row


@pytest.mark.parametrize(
    "flops, static, told",
    [
        (900.0, 2000, "900 FLOPs a sample as the router executes them (thop); the static network: 2.00k"),
        (
            None,
            2000,
            "FLOPs differ with the size of a sample, and are not counted; the static network: 2.00k for",
        ),
        (None, None, "FLOPs are not told: some of the net's operations are unknown"),
    ],
)
def test_operations_that_are_not_known_have_a_reason(flops, static, told):
    result = PolicyResult("texts", 50.0, flops, static, "thop", (0.5, 0.5), (40.0, 60.0))
    assert result_text(result).split("\n\n")[1].startswith(told)
