"""Which samples of several data sets come when: counted, sample by sample."""

from __future__ import annotations

import pytest
import torch

from offramp.data import JointBatch, JointTransform, Split, Streams, Transform
from offramp.data.joint_split import JointSplit

LENGTHS = {"long": 50, "short": 13}


def numbered(count, first, size=(2, 2)):
    """Images whose pixels are the numbers of the samples."""
    numbers = torch.arange(first, first + count)
    return Split(numbers.float()[:, None, None, None].expand(-1, 1, *size), {"label": numbers})


def joint(streams, lengths=None):
    lengths = lengths or LENGTHS
    parts = {
        name: numbered(count, 1000 * rank, size=(2, 2 + rank))
        for rank, (name, count) in enumerate(lengths.items())
    }
    return JointSplit(parts, {name: {"label": name} for name in parts}, streams)


def transform(split):
    return JointTransform({name: Transform((), ()) for name in split.parts})


def epoch(split, number, batch_size=8, **how):
    how = {"transform": transform(split), "device": "cpu", "shuffle": True, "drop_last": True} | how
    return list(split.batches(batch_size, epoch=number, **how))


def samples(batches, name):
    """The numbers of a set's samples in order."""
    return [n for batch in batches for n in batch.targets.get(name, torch.zeros(0)).long().tolist()]


@pytest.mark.parametrize("order", ["together", "in-turn"])
@pytest.mark.parametrize("proportions", [{}, {"short": 3}, {"long": 5, "short": 2}])
def test_the_longest_is_seen_once_an_epoch_and_the_others_evenly(order, proportions):
    split = joint(Streams(order, "longest", proportions))
    size = split.sizes(8)
    full = {name: len(part) // size[name] for name, part in split.parts.items()}
    longest = max(full, key=lambda name: full[name] / (proportions.get(name, 1) if order == "in-turn" else 1))
    streams = {name: [] for name in full}
    for number in range(4):
        batches = epoch(split, number)
        assert len(batches) == split.num_batches(8, drop_last=True)
        once = samples(batches, longest)
        assert len(once) == len(set(once)) == full[longest] * size[longest]
        for name in full:
            streams[name] += samples(batches, name)
    for name, stream in streams.items():
        a_round = full[name] * size[name]
        rounds = [stream[i : i + a_round] for i in range(0, len(stream), a_round)]
        assert all(len(set(one)) == len(one) for one in rounds)  # each sample once in each round
        assert len(rounds) < 2 or rounds[0] != rounds[1][: len(rounds[0])]


@pytest.mark.parametrize("order", ["together", "in-turn"])
def test_an_epoch_of_the_shortest_leaves_the_longer_set_to_go_on(order):
    split = joint(Streams(order, "shortest"))
    size = split.sizes(8)
    full = {name: len(part) // size[name] for name, part in split.parts.items()}
    batches = [epoch(split, number) for number in range(3)]
    for one in batches:
        once = samples(one, "short")
        assert len(once) == len(set(once)) == full["short"] * size["short"]
    goes_on = [n for one in batches for n in samples(one, "long")]
    assert len(goes_on) == len(set(goes_on)) == 3 * full["short"] * size["long"]


def test_a_step_has_samples_of_each_set_in_its_proportion():
    split = joint(Streams(proportions={"short": 3}))
    for batch in epoch(split, 0):
        assert isinstance(batch, JointBatch)
        assert {name: len(part) for name, part in batch.parts.items()} == {"long": 2, "short": 6}
        assert batch.parts["long"].inputs.shape == (2, 1, 2, 2)
        assert batch.parts["short"].inputs.shape == (6, 1, 2, 3)
        assert batch.targets.keys() == {"long", "short"}
        assert len(batch) == 8


def test_in_turn_the_sets_are_spread_evenly_in_their_proportions():
    split = joint(Streams("in-turn", proportions={"long": 3}), {"long": 48, "short": 16})
    names = ["".join(batch.targets)[0] for batch in epoch(split, 0)]
    assert "".join(names) == "llslllsl"  # at 1/12, 3/12, ... and at 1/4, 3/4
    assert all(batch.keys == {*batch.targets} for batch in epoch(split, 0))


def test_shares_are_rounded_to_make_up_the_batch():
    for batch_size in range(3, 40):
        sizes = Streams(proportions={"b": 2, "c": 3}).sizes("abc", batch_size)
        assert sum(sizes.values()) == batch_size
        exact = {"a": batch_size / 6, "b": batch_size / 3, "c": batch_size / 2}
        assert all(abs(sizes[name] - exact[name]) < 1 for name in sizes)


@pytest.mark.parametrize("order", ["together", "in-turn"])
@pytest.mark.parametrize("of", ["longest", "shortest"])
def test_an_epoch_goes_on_from_any_step(order, of):
    split = joint(Streams(order, of, {"short": 2}))
    for number in (0, 3):
        whole = epoch(split, number, seed=5)
        for start in range(len(whole) + 1):
            rest = epoch(split, number, seed=5, start=start)
            for name in LENGTHS:
                assert samples(rest, name) == samples(whole[start:], name)


@pytest.mark.parametrize("order", ["together", "in-turn"])
def test_two_processes_share_the_batches_of_one(order):
    split = joint(Streams(order))
    alone = epoch(split, 2)
    shares = [epoch(split, 2, batch_size=4, rank=rank, world=2) for rank in (0, 1)]
    assert len(alone) == len(shares[0]) == len(shares[1])
    for one, *two in zip(alone, *shares, strict=True):
        for name in LENGTHS:
            assert sorted(samples(two, name)) == sorted(samples([one], name))


def test_sets_of_one_length_come_in_orders_of_their_own_by_their_names():
    split = joint(Streams(), {"a": 20, "b": 20})
    batches = epoch(split, 0)
    assert [n - 1000 for n in samples(batches, "b")] != samples(batches, "a")
    turned = JointSplit(dict(reversed(split.parts.items())), split.keys, split.streams)
    assert samples(epoch(turned, 0), "a") == samples(batches, "a")
    assert samples(epoch(split, 0, seed=1), "a") != samples(batches, "a")


def test_an_evaluation_sees_every_sample_once_set_by_set():
    split = joint(Streams("in-turn", "shortest"))
    batches = epoch(split, 0, shuffle=False, drop_last=False)
    assert len(batches) == split.num_batches(8) == 7 + 2
    assert samples(batches, "long") == [*range(50)]
    assert samples(batches, "short") == [*range(1000, 1013)]
    assert all(len(batch.targets) == 1 for batch in batches)
