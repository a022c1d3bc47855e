"""What a partition is: counts, masks, gains, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from offramp import UserError
from offramp.forks import Partition, Place
from offramp.forks._shares import shared_count


@pytest.mark.parametrize(
    ("channels", "published"),
    [
        (64, [6, 19, 32, 45, 58]),
        (128, [13, 38, 64, 90, 115]),
        (256, [26, 77, 128, 179, 230]),
        (512, [51, 154, 256, 358, 461]),
    ],
)
def test_the_published_channel_counts(channels, published):
    assert [shared_count(b, channels, "round") for b in (0.1, 0.3, 0.5, 0.7, 0.9)] == published


def test_rounding_is_half_to_even():
    assert [shared_count(0.5, c, "round") for c in (3, 5, 7)] == [2, 2, 4]
    assert [shared_count(0.5, c, "floor") for c in (3, 5, 7)] == [1, 2, 3]
    assert [shared_count(0.3, c, "multiple_of=8") for c in (64, 128)] == [16, 40]


def test_the_gains_are_the_table_of_the_docstring():
    gains = Partition(beta=0.25, own_to_shared=0.5, later_to_own=0.125).gains(Place(4, exit=1, num_exits=3))
    assert gains.tolist() == [[0.5, 1, 1, 1], [1, 0.125, 0.125, 0.125]]  # of the head, of the next stage


def test_where_a_partition_acts():
    def acts(options: Partition) -> list[tuple[int, bool]]:
        places = [Place(4, exit, 4, coarsest) for exit in (1, 2, 3) for coarsest in (False, True)]
        return [(p.exit, p.coarsest) for p in places if options.gains(p) is not None]

    assert acts(Partition()) == [(1, True), (2, True), (3, True)]
    assert acts(Partition(where=[2])) == [(2, True)]
    assert acts(Partition(where=[2], scales="all")) == [(2, False), (2, True)]


def test_exits_that_cannot_be_split_are_refused():
    for options in (Partition(where=[1, 4]), Partition(channels={4: [0]})):
        with pytest.raises(UserError, match="exit 4 cannot be partitioned: choose from 1 to 3"):
            options.gains(Place(4, exit=1, num_exits=4))


def test_chosen_channels():
    assert Partition(channels={2: [3, 0]}).mask(5, exit=2).tolist() == [True, False, False, True, False]
    assert Partition(channels={2: [3, 0]}).mask(4, exit=1).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"beta": 0}, "beta is 0, must be a number above 0 and below 1"),
        ({"beta": 1.0}, "beta is 1.0"),
        ({"beta": "half"}, "beta is 'half'"),
        ({"own_to_shared": -1}, "own_to_shared is -1, must be a number of 0 or more"),
        ({"later_to_own": float("nan")}, "later_to_own is nan"),
        ({"impl": "fast"}, "impl is 'fast', must be fused, split or cat"),
        ({"rounding": "ceil"}, "rounding is 'ceil', must be"),
        ({"scales": "fine"}, "scales is 'fine', must be coarsest or all"),
        ({"reference": "slice"}, "vgg7(slice_beta=0.5)"),
        ({"reference": "zero", "own_to_shared": 1}, "reference=zero leaves no edge"),
        ({"where": 2}, "where names the exits to partition"),
        ({"where": []}, "where names the exits to partition"),
        ({"where": ["a"]}, "got ['a']"),
        ({"channels": 5}, "channels maps exits to the indices"),
        ({"channels": {1: 3}}, "channels maps exits to the indices"),
        ({"channels": {1: ["a"]}}, "channels maps exits to the indices"),
    ],
)
def test_bad_options_are_refused_with_the_remedy(options, says):
    with pytest.raises(UserError) as error:
        Partition(**options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_part_is_refused():
    with pytest.raises(UserError, match=r"no shared channel of its 4 .*rounding=round"):
        Partition(beta=0.1).mask(4, exit=1)
    with pytest.raises(UserError, match="no own channel of its 4"):
        Partition(beta=0.9).mask(4, exit=1)
    with pytest.raises(UserError, match="channels 0 to 3"):
        Partition(channels={1: [4]}).mask(4, exit=1)


def test_indices_of_any_kind_become_plain_numbers():
    options = Partition(where=range(1, 3), channels={1: torch.tensor([2, 0])})
    assert json.loads(json.dumps(dataclasses.asdict(options)))["channels"] == {"1": [2, 0]}
    assert options.where == (1, 2)
