from offramp.exits import Policy
from offramp.reports.policy_text import policy_text


def test_thresholds_are_numbers_or_words():
    lines = policy_text(Policy((0.25, None, 1e8, -1e8, (0.5, 1e8), (1e8, 1e8)))).splitlines()
    shown = ["0.25", "not evaluated", "none leaves", "all leave"]
    shown += ["0.5 to none leaves by class", "none leaves by class", "all leave"]
    rows = [line for line in lines if line.strip()[:1].isdigit()]
    assert len(rows) == len(shown)
    for row, words in zip(rows, shown, strict=True):
        assert f" {words} " in row
