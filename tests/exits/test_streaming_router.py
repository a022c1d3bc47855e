"""The streaming router's answers against the router's; its thread under load, in trouble and at the end."""

import asyncio
import concurrent.futures
import gc
import math
import os
import queue
import random
import subprocess
import sys
import textwrap
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import steered
import torch
from steered import EXITS, POLICY, sample
from test_router import Refining, build, head, images
from torch import nn
from torch._dynamo.testing import CompileCounter

import offramp
from offramp.errors import UserError
from offramp.exits import Ensemble, PathCosts, Policy, Router, StreamingRouter
from offramp.nets import MultiExitNet

SOON = 60.0  # seconds: never reached unless something hangs
PER_CLASS = (0.99, 0.3, 0.5, 0.9, 0.2)
ENSEMBLE = Ensemble(
    [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]], [[0.1] * 5] * 4
)


def same(ours, theirs, rows=slice(None)):
    """Whether answers to single samples are those to a batch."""
    assert [a.prediction for a in ours] == theirs.prediction[rows].tolist()
    assert [a.exit for a in ours] == theirs.exit[rows].tolist()
    costs = [None] * len(ours) if theirs.cost is None else theirs.cost[rows].tolist()
    assert [a.cost for a in ours] == costs
    confidence = torch.tensor([a.confidence for a in ours]).to(theirs.confidence)
    torch.testing.assert_close(confidence, theirs.confidence[rows])


@pytest.mark.parametrize(
    "policy",
    [
        Policy((0.8, 0.66, 0.65)),
        Policy((0.5, None, 0.5), "margin", (0.5, 2.0, 1.5, 3.0)),
        Policy((0.8, 0.6, 0.5), "entropy"),
        Policy((3, 2, 2), "patience"),
        Policy((PER_CLASS, (0.2, 0.99, 0.5, 0.4, 0.9), None)),
        Policy((0.8, 0.6, 0.5), "ensemble", ensemble=ENSEMBLE),
        Policy.full(4),
    ],
    ids=lambda policy: policy.confidence,
)
def test_every_request_gets_the_router_s_answer(policy):
    net, x = build(head(), Refining(), head(), head()), images(600)
    with StreamingRouter(net, policy, max_batch=7, capacity=50) as router:
        ours = [future.result(SOON) for future in [router.submit(each) for each in x]]
    same(ours, Router(net, policy)(x))


def test_thousands_of_requests_of_many_clients_in_a_random_mix():
    net, x, policy = build(), images(3000), Policy((0.8, 0.66, 0.65))
    costs = PathCosts(net).of(policy.evaluated)
    options = [{}, {"threshold": 0.5}, {"threshold": 0.9}, {"budget": costs[1]}, {"budget": costs[2] + 1}]
    own = [
        Router(net, policy)(x),
        Router(net, Policy((0.5,) * 3))(x),
        Router(net, Policy((0.9,) * 3))(x),
        None,
        None,
    ]
    mix = random.Random(0)
    kinds = [mix.randrange(6) for _ in x]

    def client(rows):
        futures = {}
        for row in rows:
            x_row = torch.full_like(x[row], torch.nan) if kinds[row] == 5 else x[row]
            futures[row] = router.submit(x_row, **options[kinds[row] % 5])
            if row % 10 == 0:
                futures[row].cancel()
        return futures

    with StreamingRouter(net, policy, max_batch=16, capacity=64) as router, ThreadPoolExecutor(5) as pool:
        shares = [range(start, len(x), 5) for start in range(5)]
        futures = {row: future for part in pool.map(client, shares) for row, future in part.items()}
        concurrent.futures.wait(futures.values(), SOON)
    assert sorted(futures) == [*range(len(x))]
    right = [[] for _ in options]
    for row, future in futures.items():
        if future.cancelled():
            assert row % 10 == 0
        elif kinds[row] == 5:
            assert isinstance(future.exception(0), UserError)
        else:
            right[kinds[row]].append((row, future.result(0)))
    for kind in (0, 1, 2):
        rows, answers = zip(*right[kind], strict=True)
        same(answers, own[kind], torch.tensor(rows))
    for kind, last in ((3, 2), (4, 3)):  # at most at that exit, and as the policy says until then
        for row, answer in right[kind]:
            assert answer.exit == min(int(own[0].exit[row]), last)
            assert answer.cost == costs[answer.exit - 1] <= options[kind]["budget"]


def test_a_threshold_of_its_own_is_reached_by_a_confidence_that_is_equal():
    x = images(1)[0]
    with StreamingRouter(build(), Policy((2, 2, 2))) as router:
        sure = router.submit(x, threshold=0).result(SOON).confidence
        exits = [router.submit(x, threshold=t).result(SOON).exit for t in (sure, math.nextafter(sure, 1))]
    assert exits[0] == 1 < exits[1]


class Words(nn.Module):
    """Embeds tokens and carries the mask, a table for the whole batch, and how many samples there were."""

    def __init__(self, varying: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.varying = varying

    def forward(self, x):
        tokens = self.embedding(x["tokens"])
        table = torch.full((tokens.shape[1], 4), len(tokens) if self.varying else 2).to(tokens)
        return {"x": tokens * (table > 0), "mask": x["mask"], "table": table}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, feature):
        return {**feature, "x": feature["x"] + self.fc(feature["x"]).sin()}


class MaskedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, feature):
        mask = feature["mask"][..., None]
        return self.fc((feature["x"] * mask).sum(1) / mask.sum(1))


@pytest.mark.parametrize("varying", [False, True])
def test_texts_of_many_lengths(varying):
    torch.manual_seed(0)
    example = {"tokens": torch.ones(1, 6, dtype=torch.long), "mask": torch.ones(1, 6, dtype=torch.bool)}
    stages = [Words(varying), Layer(), Layer()]
    net = MultiExitNet(stages, [MaskedMean() for _ in stages], example=example).double()
    policy, lengths = Policy((0.5, 0.48)), random.Random(0)
    texts = []
    for _ in range(120):
        n = lengths.randrange(1, 7)
        mask = torch.arange(n) < lengths.randrange(1, n + 1)
        texts.append({"mask": mask, "tokens": torch.randint(9, (n,))})
    with StreamingRouter(net, policy, max_batch=4) as router:
        ours = [future.result(SOON) for future in [router.submit(text) for text in texts]]
        short = next(text for text in texts if len(text["mask"]) < 6)
        with pytest.raises(UserError, match="operations of inputs of this size are unknown"):
            router.submit(short, budget=1e6)
    assert {answer.cost is None for answer in ours} == {True, False}  # those of 6 tokens are counted
    plain = Router(net, policy)
    exits = set()
    for answer, text in zip(ours, texts, strict=True):
        same([answer], plain({name: value[None] for name, value in text.items()}))
        exits.add(answer.exit)
    assert len(exits) == 3


def test_compiled_parts_give_the_same_answers_and_are_compiled_for_few_sizes(monkeypatch):
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    net, policy = build(), Policy((0.6, 0.45, None))
    with StreamingRouter(net, policy, max_batch=7, compile=True) as router:
        ours = [future.result(SOON) for future in [router.submit(each) for each in images(50)]]
    same(ours, Router(net, policy)(images(50)))
    assert counter.frame_count <= 3 * 6  # 1, 2, 3, 4, 6, 8


def test_it_runs_under_the_autocast_that_it_was_made_under():
    net, x, policy = build().float(), images(20).float(), Policy.full(4)
    with torch.autocast("cpu", torch.bfloat16):
        expected = Router(net, policy)(x)
        router = StreamingRouter(net, policy)
    with router:
        ours = [future.result(SOON).confidence for future in [router.submit(each) for each in x]]
    assert (torch.tensor(ours) - expected.confidence).abs().max() < 0.02
    assert (torch.tensor(ours) - Router(net, policy)(x).confidence).abs().max() > 0


class Held:
    """A router of a net whose stages wait until they are let go, one run at a time."""

    def __init__(self, **settings):
        self.router = StreamingRouter(steered.net(), POLICY, **settings)
        self.entered, self.gate = queue.SimpleQueue(), queue.SimpleQueue()
        self.late = 0.0  # what the router's clock is ahead of ours
        self.router._worker._scheduler._clock = lambda: time.monotonic() + self.late
        for step in self.router._net.steps:
            step.segment.stages[0].register_forward_pre_hook(partial(self._wait, step.gate.exit))

    def _wait(self, exit, stage, inputs):
        self.entered.put((exit, len(inputs[0])))
        self.gate.get(timeout=SOON)

    def running(self):
        """Which stage has begun, and on how many samples."""
        return self.entered.get(timeout=SOON)

    def let_go(self, runs=1):
        for _ in range(runs):
            self.gate.put(None)


@pytest.fixture
def held():
    made = []

    def make(**settings):
        made.append(Held(**settings))
        return made[-1]

    yield make
    for each in made:
        each.let_go(100)
        each.router.close(cancel=True)


@pytest.mark.parametrize("trouble", ["cancel", "timeout", "raise"])
@pytest.mark.parametrize("stage", range(1, EXITS + 1))
def test_trouble_while_a_stage_runs_harms_one_request_alone(held, stage, trouble):
    h = held(max_wait=0)
    first = h.router.submit(sample(1))
    h.running()  # the others come together
    bad = h.router.submit(sample(label=2, raises=stage if trouble == "raise" else 99), timeout=1000)
    good = [h.router.submit(sample(label=3)), h.router.submit(sample(2, label=4))]
    for k in range(1, stage + 1):
        h.let_go()
        assert h.running() == (k, 3 if k < 3 else 2)
    if trouble == "cancel":
        assert bad.cancel()
        with pytest.raises(CancelledError):
            bad.result(SOON)
    if trouble == "timeout":
        h.late = 2000.0
    h.let_go(100)
    assert first.result(SOON)[:2] == (1, 1)
    assert [future.result(SOON)[:2] for future in good] == [(3, 3), (4, 2)]
    if trouble == "raise":
        with pytest.raises(ArithmeticError, match=f"stage {stage}"):
            bad.result(SOON)
    if trouble == "timeout" and stage < EXITS:
        with pytest.raises(TimeoutError, match="no answer within 1000 seconds"):
            bad.result(SOON)
    if trouble == "timeout" and stage == EXITS:  # what runs by then runs to the next exit
        assert bad.result(SOON)[:2] == (2, 3)
    assert h.router.submit(sample(label=1)).result(SOON)[:2] == (1, 3)


def test_much_trouble_at_once_harms_nobody_else():
    mix = random.Random(0)
    kinds = mix.choices(["fine", "raise", "nan", "cancel", "late"], [6, 1, 1, 1, 1], k=1500)
    futures = []
    with StreamingRouter(steered.net(), POLICY, max_batch=16, capacity=100) as router:
        for kind in kinds:
            leaves, label, stage = mix.randint(1, EXITS), mix.randint(1, 4), mix.randint(1, EXITS)
            harm = {"raise": {"raises": stage}, "nan": {"nan": EXITS}}.get(kind, {})
            x = sample(EXITS if harm else leaves, label, **harm)
            timeout = 1e-3 if kind == "late" else None
            futures.append((kind, (label, leaves), router.submit(x, timeout=timeout)))
            if kind == "cancel":
                futures[-1][2].cancel()
    errors = {"raise": ArithmeticError, "nan": UserError, "cancel": CancelledError, "late": TimeoutError}
    for kind, expected, future in futures:
        error = CancelledError() if future.cancelled() else future.exception(0)
        if error is None:
            assert future.result(0)[:2] == expected
            assert kind in ("fine", "cancel", "late")  # the last two may still have been answered
        else:
            assert type(error) is errors[kind]


def test_a_full_router_lets_callers_wait_or_refuses(held):
    h = held(capacity=2, max_batch=1)
    first, second = h.router.submit(sample(1)), h.router.submit(sample(1))
    with pytest.raises(queue.Full, match="2 requests wait"):
        h.router.submit(sample(1), block=False)
    with ThreadPoolExecutor(1) as caller:
        third = caller.submit(h.router.submit, sample(1, label=3))
        assert not concurrent.futures.wait([third], 0.1).done
        h.let_go()
        assert first.result(SOON)
        assert third.result(SOON)
        h.let_go(2)
        assert second.result(SOON) and third.result(SOON).result(SOON)[:2] == (3, 1)


def test_who_waits_for_room_may_come_too_late_or_to_a_closed_door(held):
    h = held(capacity=1)
    first = h.router.submit(sample(1))
    h.running()
    with pytest.raises(TimeoutError):
        h.router.submit(sample(1), timeout=0.01).result(0)
    with ThreadPoolExecutor(2) as callers:
        waits = callers.submit(h.router.submit, sample(1))
        assert not concurrent.futures.wait([waits], 0.1).done
        closes = callers.submit(h.router.close)
        with pytest.raises(UserError, match="the router is closed"):
            waits.result(SOON)
        h.let_go()
        closes.result(SOON)
    assert first.result(SOON)[:2] == (1, 1)


def test_a_request_that_is_cancelled_makes_room(held):
    h = held(capacity=2)
    h.router.submit(sample(1))
    h.running()
    waiting = h.router.submit(sample(1))
    assert waiting.cancel() and waiting.cancel()
    assert concurrent.futures.wait([waiting], SOON).done
    again = h.router.submit(sample(1), block=False)
    h.let_go(2)
    assert again.result(SOON)
    assert not again.cancel()


def test_closing_answers_what_waits(held):
    h = held(max_batch=1)
    futures = [h.router.submit(sample(1)) for _ in range(5)]
    h.let_go(5)
    h.router.close()
    assert all(future.done() and future.result() for future in futures)
    with pytest.raises(UserError, match="the router is closed"):
        h.router.submit(sample(1))
    h.router.close(cancel=True)
    assert not h.router._worker.is_alive()


def test_closing_may_cancel_what_waits(held):
    h = held(max_batch=1)
    with pytest.raises(KeyboardInterrupt), h.router:
        futures = [h.router.submit(sample(1)) for _ in range(5)]
        h.running()
        futures[0].add_done_callback(lambda _: h.let_go())
        raise KeyboardInterrupt
    assert all(future.cancelled() for future in futures)
    assert not h.router._worker.is_alive()


def test_callbacks_may_submit_and_close():
    with StreamingRouter(steered.net(), POLICY, capacity=1) as router:
        told = queue.SimpleQueue()

        def again(future):
            told.put(router.submit(sample(1, label=2)))
            try:
                router.submit(sample(1))
            except queue.Full as error:
                told.put(error)
            router.close()

        router.submit(sample(1)).add_done_callback(again)
        assert told.get(timeout=SOON).result(SOON)[:2] == (2, 1)
        assert isinstance(told.get(timeout=SOON), queue.Full)  # it would wait for itself


@pytest.mark.parametrize("kind", [ArithmeticError, SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("end", ["answer", "error", "timeout", "cancel"])
def test_a_callback_that_raises_harms_nobody(held, caplog, kind, end):
    def fail(future):
        raise kind("of a callback")

    h = held(max_batch=1)
    before = h.router.submit(sample(3))
    h.running()
    told = queue.SimpleQueue()
    x = sample(1, raises=1 if end == "error" else 99)
    first = h.router.submit(x, timeout=1e-9 if end == "timeout" else None)
    first.add_done_callback(fail)
    first.add_done_callback(told.put)  # a callback after it is called as well
    if end == "cancel":
        first.cancel()
    h.let_go(100)
    assert told.get(timeout=SOON) is first
    assert before.result(SOON).exit == 3
    assert h.router.submit(sample(3, label=2)).result(SOON)[:2] == (2, 3)
    assert "of a callback" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_should_the_thread_end_by_a_fault_of_its_own_nobody_waits_for_it(held, monkeypatch):
    h = held(max_batch=1)
    futures = [h.router.submit(sample(3)) for _ in range(3)]
    h.running()
    monkeypatch.setattr(h.router._worker._scheduler, "_pass_on", lambda *_: 1 / 0)
    h.let_go()
    for future in futures:
        with pytest.raises(ZeroDivisionError):
            future.result(SOON)
    with pytest.raises(UserError, match="the router is closed"):
        h.router.submit(sample(3))


def test_the_thread_ends_with_a_router_that_nobody_closed():
    router = StreamingRouter(steered.net(), POLICY)
    thread, future = router._worker, router.submit(sample(3))
    del router
    gc.collect()
    assert future.result(SOON)[:2] == (1, 3)
    thread.join(SOON)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_thread_ends_with_the_interpreter_and_is_missed_in_a_fork(tmp_path):
    script = """
        import os, sys, warnings
        from steered import POLICY, net, sample
        from offramp.exits import StreamingRouter
        router = StreamingRouter(net(), POLICY)
        router.submit(sample()).result()
        warnings.simplefilter("ignore")
        if os.fork() == 0:
            try:
                router.submit(sample())
            except ValueError as error:
                print(error)
            sys.exit()
        os.wait()
        for _ in range(100):
            router.submit(sample()).add_done_callback(lambda future: print(future.result().exit))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(offramp.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (run.returncode, run.stderr) == (0, "")
    refusal, *exits = run.stdout.split("\n")
    assert "make the router after the fork" in refusal
    assert exits == ["3"] * 100 + [""]


def test_asyncio_waits_for_answers_and_cancels_them(held):
    h = held(max_batch=1)

    async def serve():
        futures = [h.router.submit(sample(1, label=1 + k), block=False) for k in range(4)]
        tasks = [*map(asyncio.wrap_future, futures)]
        await asyncio.to_thread(h.running)
        tasks[2].cancel()
        while not futures[2].cancelled():  # the loop passes it on
            await asyncio.sleep(0)
        h.let_go(3)
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(serve())
    assert isinstance(answers.pop(2), asyncio.CancelledError)
    assert [answer.prediction for answer in answers] == [1, 2, 4]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (images(2), r"one sample, without a batch axis; .* \[N, 3, 8, 8\], got \[1, 2, 3, 8, 8\]"),
        (images(2)[0, :1], r"reads inputs \[N, 3, 8, 8\], got \[1, 1, 8, 8\]"),
        (images(2)[0].float(), "reads torch.float64, the inputs are torch.float32"),
        ({"x": images(2)[0]}, "reads a Tensor, got a dict of Tensors 'x'"),
        ([images(2)[0]], "reads a Tensor, got a list"),
        ([], "reads a Tensor, got a list"),
        ({}, "reads a Tensor, got a dict"),
        (None, "reads a Tensor, got a NoneType"),
        (images(2)[0].numpy(), "reads a Tensor, got an ndarray"),
    ],
)
def test_what_is_no_sample_of_the_net_gives_one_line(x, message, router):
    for _ in range(2):  # what is refused once is refused again
        with pytest.raises(UserError, match=message):
            router.submit(x)


@pytest.fixture
def router():
    with StreamingRouter(build(), Policy((0.8, 0.66, 0.65))) as router:
        yield router


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": "high"}, "threshold is 'high', must be a number"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"threshold": True}, "threshold is True"),
        ({"budget": 0}, "budget is 0, must be a number of operations of at least 6932, the cost of exit 1"),
        ({"budget": "170M"}, "budget is '170M'"),
        ({"timeout": 0}, "timeout is 0, must be a number of seconds above 0"),
        ({"timeout": float("inf")}, "timeout is inf"),
    ],
)
def test_options_out_of_their_range_give_one_line(options, message, router):
    with pytest.raises(UserError, match=message):
        router.submit(images(1)[0], **options)


def test_a_timeout_may_be_longer_than_the_system_can_wait(router):
    assert router.submit(images(1)[0], timeout=1e300).result(SOON)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch": 0}, "max_batch is 0, must be a whole number of at least 1"),
        ({"max_wait": -1}, "max_wait is -1, must be a number of seconds, 0 or more"),
        ({"capacity": 1.5}, "capacity is 1.5, must be a whole number"),
    ],
)
def test_settings_out_of_their_range_give_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        StreamingRouter(build(), Policy((0.8, 0.66, 0.65)), **settings)


class Uncounted(nn.Module):
    """A stage with an operation that nothing is known of."""

    def forward(self, x):
        return torch.linalg.matrix_exp(x)


def test_where_operations_are_unknown_there_is_no_budget(monkeypatch):
    net = build()
    net.stages[0].append(Uncounted())
    with StreamingRouter(net, Policy((0.8, 0.66, 0.65))) as router:
        assert router.submit(images(1)[0]).result(SOON).cost is None
        with pytest.raises(UserError, match=r"operations of the net are unknown.*give `threshold=` instead"):
            router.submit(images(1)[0], budget=1e9)
