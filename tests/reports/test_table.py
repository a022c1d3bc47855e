import pytest

from offramp.reports import aligned, count, paired_difference, result_table, signed
from offramp.runs.result import Result


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (912, "912"), (999, "999"), (1000, "1.00k"), (9994, "9.99k"), (9996, "10.0k"),
        (45_600, "45.6k"), (99_960, "100k"), (999_600, "1.00M"), (381_263_000, "381M"),
        (15_470_000_000, "15.5G"), (2.5e15, "2500T"),
    ],
)  # fmt: skip
def test_count_keeps_three_digits(number, text):
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "decimals", "text"),
    [
        (-0.05, 2, "-0.05"), (0.05, 2, "+0.05"), (-1.0, 1, "-1.0"), (12.345, 1, "+12.3"), (-34.6, 0, "-35"),
        (0.0, 2, "0.00"), (-0.0, 2, "0.00"), (-0.004, 2, "0.00"), (0.004, 2, "0.00"), (-0.2, 0, "0"),
    ],
)  # fmt: skip
def test_a_sign_is_right_or_not_there(number, decimals, text):
    assert signed(number, decimals) == text


def test_differences_have_the_sign_of_their_number():
    assert str(paired_difference([29.95], [30.0])) == "-0.05"
    assert str(paired_difference([30.0], [30.0])) == "0.00"


def test_columns_are_aligned():
    assert aligned(["exit", "top-1"], [["1", "9.5"], ["average", "10.25"]]).splitlines() == [
        "exit     top-1",
        "-------  -----",
        "1          9.5",
        "average  10.25",
    ]


RUN = {"net": "vgg7", "method": "joint", "data": "digits", "seed": 0}


def test_result_table_shows_every_number():
    exits = [{"top1": 50.0, "top5": 80.0, "params": 1500, "flops": 2_000_000}] * 2
    text = result_table(
        Result.from_json({**RUN, "exits": exits, "average_top1": 50.0, "ensemble_top1": 52.25})
    )
    lines = [line.split() for line in text.splitlines()]
    assert lines[2] == ["1", "1.50k", "2.00M", "50.00", "80.00"]
    assert lines[4:] == [["average", "50.00"], ["ensemble", "52.25"]]
