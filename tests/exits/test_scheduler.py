"""The scheduler, stepped by hand with a clock of ours: who runs with whom, and who is harmed by whom."""

import weakref

import pytest
import torch
from steered import EXITS, POLICY, net, request, sample

from offramp.errors import UserError
from offramp.exits._engine import TorchEngine
from offramp.exits._inference import InferenceNet
from offramp.exits.queueing import Scheduler
from offramp.exits.rows import Flow, stack


class Stepped:
    """A scheduler with a clock that is set by hand."""

    def __init__(self, max_batch: int = 4, max_wait: float = 1.0) -> None:
        self.inference = InferenceNet(net(), POLICY)
        self.stages = [step.segment.stages[0] for step in self.inference.steps]
        for stage in self.stages:
            stage.batches.clear()
        self.now = 0.0
        self.scheduler = Scheduler(
            TorchEngine(self.inference), max_batch=max_batch, max_wait=max_wait, clock=lambda: self.now
        )

    def admit(self, *requests):
        self.scheduler.admit(requests)
        return requests

    def turn(self) -> int:
        """One turn; the number of the stage that ran, 0 if none."""
        before = [len(stage.batches) for stage in self.stages]
        with torch.inference_mode():
            self.scheduler.turn()
        after = [len(stage.batches) for stage in self.stages]
        return next((k for k, (a, b) in enumerate(zip(before, after, strict=True), 1) if a != b), 0)

    def finish(self) -> None:
        while not self.scheduler.idle:
            self.turn()


def answers(requests):
    return [(r.future.result(0).prediction, r.future.result(0).exit) for r in requests]


def test_samples_of_later_batches_take_the_room_of_those_that_left():
    s = Stepped(max_batch=4)
    wanted = [1, 2, 3, 3, 1, 3, 3, 1]
    asked = s.admit(*(request(sample(leaves, label=1 + i % 4)) for i, leaves in enumerate(wanted)))
    assert [s.turn(), s.turn()] == [1, 1]  # 3 of 4 go on, then 2 of 4: 5 wait
    assert s.turn() == 2  # a full batch, of which 3 go on
    assert [stage.batches for stage in s.stages] == [[4, 4], [4], []]
    s.finish()
    assert [stage.batches for stage in s.stages] == [[4, 4], [4, 1], [3, 1]]
    assert answers(asked) == [(1 + i % 4, leaves) for i, leaves in enumerate(wanted)]


def test_the_deepest_goes_first_unless_a_batch_is_full():
    s = Stepped(max_batch=2)
    s.admit(request(sample(3)))
    assert s.turn() == 1
    s.admit(request(sample(3)))
    assert [s.turn(), s.turn()] == [2, 3]
    s.admit(request(sample(3)))
    assert s.turn() == 1
    assert s.turn() == 2  # both that wait there
    assert s.stages[1].batches == [1, 2]


def test_who_has_waited_long_enough_goes_before_full_batches():
    s = Stepped(max_batch=2, max_wait=1.0)
    s.admit(request(sample(3)))
    assert s.turn() == 1
    for s.now in (0.5, 0.9):
        s.admit(request(sample(1)), request(sample(1)))
        assert s.turn() == 1
    s.now = 1.0
    s.admit(request(sample(1)), request(sample(1)))
    assert [s.turn(), s.turn()] == [2, 1]
    assert s.turn() == 3  # since 1.0


def test_under_load_batches_are_full():
    s = Stepped(max_batch=4, max_wait=100.0)
    for _ in range(20):
        s.admit(*(request(sample(leaves)) for leaves in (1, 1, 2, 3)))
    for _ in range(30):
        s.turn()
    assert [set(stage.batches) for stage in s.stages] == [{4}, {4}, {4}]


def test_the_first_that_waits_in_a_buffer_tells_how_long_it_has_waited():
    s = Stepped(max_batch=3, max_wait=1.0)
    s.admit(request(sample(3)))
    assert s.turn() == 1
    s.now = 0.9
    s.admit(*(request(sample(leaves)) for leaves in (3, 1, 1)))
    assert s.turn() == 1  # full; of it one waits behind the first one
    s.now = 1.1
    s.admit(*(request(sample(1)) for _ in range(3)))
    assert s.turn() == 2  # the one has waited for 1.1 seconds, the other for 0.2


def test_a_rare_kind_does_not_starve_behind_a_common_one():
    s = Stepped(max_batch=2, max_wait=1.0)
    rare = request(sample(1), kind=type(request(sample()).kind)(request(sample()).kind.form))
    s.admit(request(sample(1)), request(sample(1)), rare)
    for _ in range(3):
        s.now += 0.4
        s.admit(*(request(sample(1)) for _ in range(3)))  # more than can be run
        s.turn()
    s.turn()
    assert rare.future.done()


@pytest.mark.parametrize("stage", range(EXITS))
def test_who_cancels_harms_nobody_else(stage):
    s = Stepped()
    asked = s.admit(*(request(sample(EXITS, label=1 + i)) for i in range(4)))
    for _ in range(stage):
        s.turn()
    assert asked[1].future.cancel()
    s.finish()
    assert asked[1].future.cancelled()
    assert answers([asked[0], *asked[2:]]) == [(1, EXITS), (3, EXITS), (4, EXITS)]
    assert [stage.batches for stage in s.stages] == [[4]] * stage + [[3]] * (EXITS - stage)


@pytest.mark.parametrize("stage", range(EXITS))
def test_who_comes_too_late_harms_nobody_else(stage):
    s = Stepped()
    asked = s.admit(
        *(request(sample(EXITS, label=1 + i), timeout=5.0, deadline=5.0 if i == 1 else 7.0) for i in range(4))
    )
    s.now = 4.9
    for _ in range(stage):
        s.turn()
    s.now = 5.0
    s.finish()
    with pytest.raises(TimeoutError, match="no answer within 5 seconds"):
        asked[1].future.result(0)
    assert answers([asked[0], *asked[2:]]) == [(1, EXITS), (3, EXITS), (4, EXITS)]
    assert [stage.batches for stage in s.stages] == [[4]] * stage + [[3]] * (EXITS - stage)


def test_who_waits_for_a_batch_of_its_kind_is_told_in_time_as_well():
    s = Stepped(max_batch=1)
    first, second = s.admit(request(sample(3)), request(sample(3), timeout=2.0, deadline=2.0))
    s.turn()
    s.now = 2.0
    s.turn()
    assert not first.future.done()
    assert isinstance(second.future.exception(0), TimeoutError)


@pytest.mark.parametrize("culprits", [(0,), (6,), (2, 3), (0, 3, 6), (1, 2, 4, 5), range(7)])
@pytest.mark.parametrize("stage", range(1, EXITS + 1))
def test_who_raises_harms_nobody_else(stage, culprits):
    s = Stepped(max_batch=7)
    asked = s.admit(
        *(request(sample(EXITS, label=1 + i % 4, raises=stage if i in culprits else 99)) for i in range(7))
    )
    s.finish()
    for i, each in enumerate(asked):
        if i in culprits:
            with pytest.raises(ArithmeticError, match=f"stage {stage}"):
                each.future.result(0)
        else:
            assert answers([each]) == [(1 + i % 4, EXITS)]
    assert s.scheduler.idle


def test_who_raises_is_found_in_few_runs():
    s = Stepped(max_batch=64)
    s.admit(*(request(sample(EXITS, raises=2 if i == 40 else 99)) for i in range(64)))
    s.finish()
    assert len(s.stages[1].batches) == 1 + 2 * 6  # 64, then two halves of each of 64, 32, ..., 2
    assert s.stages[2].batches == [63]


def test_who_comes_too_late_while_a_batch_runs_again_is_told():
    s = Stepped()
    asked = s.admit(
        request(sample(raises=1)),
        request(sample(), timeout=1.0, deadline=1.0),
        request(sample(2)),
        request(sample(1)),
    )
    s.stages[0].register_forward_pre_hook(lambda *_: setattr(s, "now", s.now + 0.6))
    s.finish()
    assert isinstance(asked[0].future.exception(0), ArithmeticError)
    assert answers(asked[2:]) == [(1, 2), (1, 1)]
    assert isinstance(asked[1].future.exception(0), TimeoutError)


def test_what_ends_programs_ends_a_request():
    s = Stepped()
    s.stages[1].register_forward_pre_hook(lambda stage, x: exit(3) if (x[0][:, 1] == 4).any() else None)
    asked = s.admit(request(sample(label=4)), request(sample(label=2)))
    s.finish()
    assert isinstance(asked[0].future.exception(0), SystemExit)
    assert answers(asked[1:]) == [(2, EXITS)]


def test_where_memory_is_short_for_a_batch_its_halves_run(monkeypatch):
    take, s = Flow.take, Stepped(max_batch=8)

    def short(flow, rows, *how):
        if len(rows.places) > 3:
            raise MemoryError
        return take(flow, rows, *how)

    monkeypatch.setattr(Flow, "take", short)
    asked = s.admit(*(request(sample(2 if i < 3 else 3)) for i in range(8)))
    s.finish()
    assert answers(asked) == [(1, 2)] * 3 + [(1, 3)] * 5


@pytest.mark.parametrize("exit", range(1, EXITS + 1))
def test_who_is_not_a_number_harms_nobody_else(exit):
    s = Stepped()
    asked = s.admit(*(request(sample(exit, label=1 + i, nan=exit if i == 2 else 99)) for i in range(4)))
    s.finish()
    if exit < EXITS:  # as for the router, only an answer has to be a number
        assert answers(asked) == [(1, exit), (2, exit), (3, exit + 1), (4, exit)]
    else:
        with pytest.raises(UserError, match=f"the logits of exit {EXITS} are not numbers"):
            asked[2].future.result(0)
        assert answers([*asked[:2], asked[3]]) == [(1, exit), (2, exit), (4, exit)]


def test_a_request_may_have_a_threshold_and_a_last_exit_of_its_own():
    s = Stepped(max_batch=8)
    asked = s.admit(
        request(sample(3)),
        request(sample(3), threshold=0.0),
        request(sample(1), threshold=2.0),
        request(sample(3), last=1),
        request(sample(1), last=1, threshold=2.0),
        request(sample(3), last=0),
        request(sample(3, nan=1), last=0),
    )
    s.finish()
    assert [exit for _, exit in answers(asked[:-1])] == [3, 1, 3, 2, 2, 1]
    assert isinstance(asked[-1].future.exception(0), UserError)


def test_nothing_of_a_request_is_kept_when_it_is_done():
    s = Stepped()
    samples = [sample(1), sample(3, raises=2), sample(3), sample(3)]
    kept = [weakref.ref(x) for x in samples]
    futures = [each.future for each in s.admit(*map(request, samples))]
    del samples
    s.turn()
    futures[3].cancel()
    s.finish()
    assert all(future.done() for future in futures)
    assert [each() for each in kept] == [None] * 4


@pytest.mark.parametrize("size", [(), (5,), (4, 3, 2), (1, 1, 2)])
def test_samples_are_stacked_in_their_memory_format(size):
    plain = torch.randn(3, *size)
    assert torch.equal(stack([*plain]), plain)
    axes = range(len(size))
    turned = [x.permute([*axes[1:], *axes[:1]]) for x in plain]  # as one image of a channels-last batch
    stacked = stack(turned)
    assert torch.equal(stacked, torch.stack(turned))
    assert stacked[0].stride() == turned[0].stride()


def test_flows_are_joined_in_order():
    a = Flow({"map": torch.arange(3.0), "table": torch.ones(2)}, torch.arange(3.0)[:, None], torch.zeros(3))
    b = Flow({"map": torch.arange(5.0), "table": torch.ones(2)}, torch.arange(5.0)[:, None], torch.ones(5))
    joined = Flow.join([a, b], [True, False])
    assert joined.x["map"].tolist() == joined.handed[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert joined.x["table"].tolist() == [1, 1]
    assert joined.state.tolist() == [0] * 3 + [1] * 5
    b.x["table"].zero_()
    with pytest.raises(ValueError, match="differs from batch to batch"):
        Flow.join([a, b], [True, False])
