"""The router against a loop over single samples, which looks at every exit's logits and picks."""

import copy
import itertools
import math
from collections import UserDict
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode

import offramp
from offramp.errors import UserError
from offramp.exits import Ensemble, PathCosts, Policy, Router
from offramp.exits._compiled import bucket, compiled
from offramp.exits.rows import Move, Rows, take
from offramp.nets import MultiExitNet

SIZE = (3, 8, 8)
CLASSES = 5


def head(channels: int = 4) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


class Refining(nn.Module):
    """A head that corrects the logits of the exit before."""

    reads_previous = True

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x, logits):
        new = self.fc(x.mean((2, 3)))
        return new if logits is None else new + logits


def build(*heads: nn.Module, seed: int = 0) -> MultiExitNet:
    torch.manual_seed(seed)
    heads = heads or (head(), head(), head(), head())
    stages = [
        nn.Sequential(
            nn.Conv2d(4 if k else 3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)
        )
        for k in range(len(heads))
    ]
    net = MultiExitNet(stages, heads, input_size=SIZE)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2)
    return net.double()


def images(n: int, seed: int = 1) -> torch.Tensor:
    """Images of different colours, of which a net that is not trained thinks differently."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randn(n, 3, 1, 1, generator=generator, dtype=torch.float64)
    return 2 * colours + torch.randn(n, *SIZE, generator=generator, dtype=torch.float64)


def by_hand(
    net: MultiExitNet, policy: Policy, x: Any, samples: int | None = None
) -> list[tuple[int, int, float]]:
    """(prediction, exit, confidence) of each sample, in plain Python."""
    answers = []
    with torch.no_grad():
        outputs = copy.deepcopy(net).eval()(x)
    for n in range(len(x) if samples is None else samples):
        agreeing, before, said = 0, None, {}
        for k in policy.evaluated:
            z = [v / policy.temperatures[k - 1] for v in outputs[k - 1][n].tolist()]
            if policy.ensemble is not None:  # log b_k + sum over j of w_kj log p_j, not yet normalised
                said[k], weights = z, policy.ensemble.weights[k - 1]
                z = [*policy.ensemble.log_bias[k - 1]]
                for j, logits in said.items():
                    log_total = math.log(sum(math.exp(v) for v in logits))
                    z = [v + weights[j - 1] * (w - log_total) for v, w in zip(z, logits, strict=True)]
            total = sum(math.exp(v) for v in z)
            p = sorted((math.exp(v) / total for v in z), reverse=True)
            best = z.index(max(z))
            agreeing, before = (agreeing + 1 if best == before else 1), best
            confidence = {
                "max-softmax": p[0],
                "margin": p[0] - p[1],
                "entropy": 1 + sum(v * math.log(v) for v in p if v > 0) / math.log(len(p)),
                "patience": float(agreeing),
                "ensemble": p[0],
            }[policy.confidence]
            threshold = None if k == net.num_exits else policy.thresholds[k - 1]
            if isinstance(threshold, tuple):
                threshold = threshold[best]
            if threshold is None or confidence >= threshold:
                answers.append((best, k, confidence))
                break
    return answers


THRESHOLDS = {
    "max-softmax": (0.8, 0.66, 0.65),
    "margin": (0.8, 0.6, 0.5),
    "entropy": (0.8, 0.6, 0.5),
    "patience": (3, 2, 2),
    "ensemble": (0.7, 0.6, 0.6),
}
ENSEMBLE = Ensemble(
    [[(1 + j) / (1 + k) for j in range(4)] for k in range(4)],
    [[0.1 * (k - c) for c in range(CLASSES)] for k in range(4)],
)


@pytest.mark.parametrize("temperatures", [(), (0.5, 2.0, 1.5, 3.0)])
@pytest.mark.parametrize("confidence", THRESHOLDS)
@pytest.mark.parametrize("n", [1, 2, 33])
def test_every_sample_gets_the_answer_of_the_first_exit_that_is_sure(confidence, temperatures, n):
    net = build()
    ensemble = ENSEMBLE if confidence == "ensemble" else None
    policy = Policy(THRESHOLDS[confidence], confidence, temperatures, ensemble)
    answer = Router(net, policy)(images(n))
    expected = by_hand(net, policy, images(n))
    assert [*zip(answer.prediction.tolist(), answer.exit.tolist(), strict=True)] == [e[:2] for e in expected]
    torch.testing.assert_close(answer.confidence.double(), torch.tensor([e[2] for e in expected]).double())
    if n > 2:
        assert len(set(answer.exit.tolist())) > 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "policy",
    [
        *(Policy(t, c, (), ENSEMBLE if c == "ensemble" else None) for c, t in THRESHOLDS.items()),
        Policy(((0.9, 0.6, 0.5, 0.7, 0.8), 0.66, (0.5, 0.6, 0.7, 0.8, 0.9))),
        Policy((None, 0.66, None), temperatures=(1.0, 2.0, 1.0, 3.0)),
        Policy((None, None, None)),
    ],
)
@pytest.mark.parametrize("heads", [(), (head(), Refining(), Refining(), head())])
def test_a_single_sample_gets_the_answer_that_it_gets_in_a_batch(heads, policy, dtype):
    router, x = Router(build(*heads).to(dtype), policy), images(33).to(dtype)
    singles = [router(sample) for sample in x.split(1)]
    for batch, alone in zip(router(x), map(torch.cat, zip(*singles, strict=True)), strict=True):
        torch.testing.assert_close(alone, batch)  # dtypes too


def test_a_single_sample_of_many_classes_gets_the_answer_that_it_gets_in_a_batch():
    torch.manual_seed(0)
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 300)) for _ in range(2)]
    net, x = build(*heads), images(8)
    with torch.no_grad():
        middle = copy.deepcopy(net).eval()(x)[0].softmax(1).amax(1).median().item()
    router = Router(net, Policy([middle]))
    batch, singles = router(x), [router(sample) for sample in x.split(1)]
    assert len(set(batch.exit.tolist())) == 2
    for column, alone in zip(batch, map(torch.cat, zip(*singles, strict=True)), strict=True):
        torch.testing.assert_close(alone, column)


@pytest.mark.parametrize(
    "policy",
    [
        Policy((3, 3, 3), "patience"),  # a longer row of agreeing exits than two
        Policy((9, 2, 3), "patience"),
        Policy((0.7, None, 0.6), "ensemble", ensemble=ENSEMBLE),
    ],
)
def test_what_the_exits_before_have_said_counts(policy):
    net, x = build(), images(33, seed=3)
    answer, expected = Router(net, policy)(x), by_hand(net, policy, x)
    assert [*zip(answer.prediction.tolist(), answer.exit.tolist(), strict=True)] == [e[:2] for e in expected]
    torch.testing.assert_close(answer.confidence.double(), torch.tensor([e[2] for e in expected]).double())
    assert len(set(answer.exit.tolist())) > 1


@pytest.mark.parametrize("thresholds", [(0.9, None, 0.7), (None, 0.6, None), (None, None, None), (0, 0, 0)])
def test_exits_that_are_not_evaluated_are_passed_over(thresholds):
    net, policy = build(), Policy(thresholds)
    answer = Router(net, policy)(images(33))
    assert answer.exit.tolist() == [e[1] for e in by_hand(net, policy, images(33))]
    assert set(answer.exit.tolist()) <= set(policy.evaluated)


@pytest.mark.parametrize("survivors", [0, 1, 2, 32, 33])
def test_whatever_number_of_samples_goes_on(survivors):
    net, x = build(), images(33)
    with torch.no_grad():
        sure = copy.deepcopy(net).eval()(x)[0].softmax(1).amax(1).sort().values.tolist()
    cuts = [sure[0] / 2, *((a + b) / 2 for a, b in itertools.pairwise(sure)), 2]
    policy = Policy((cuts[survivors], 0.5, 0.72))
    answer = Router(net, policy)(x)
    assert (answer.exit > 1).sum() == survivors
    expected = by_hand(net, policy, x)
    assert [*zip(answer.prediction.tolist(), answer.exit.tolist(), strict=True)] == [e[:2] for e in expected]


def test_thresholds_may_depend_on_the_predicted_class():
    net, policy = build(), Policy(((0.99, 0.3, 0.5, 0.9, 0.2), (0.2, 0.99, 0.5, 0.4, 0.9), None))
    answer = Router(net, policy)(images(33))
    expected = by_hand(net, policy, images(33))
    assert [*zip(answer.prediction.tolist(), answer.exit.tolist(), strict=True)] == [e[:2] for e in expected]


def test_no_early_exit_is_the_backbone():
    net = build()
    router = Router(net, Policy.full(4))
    answer = router(images(9))
    with torch.no_grad():
        x = images(9)
        for stage in copy.deepcopy(net).eval().stages:
            x = stage(x)
        assert answer.prediction.tolist() == net.heads[-1](x).argmax(1).tolist()


@pytest.mark.parametrize("thresholds", [(0.6, 0.5, 0.72), (0.9, None, 0.7), (2, 2, 2), (0, 0, 0), (2, 0, 0)])
def test_the_operations_that_run_are_those_of_the_answer(thresholds):
    net = build()
    router, policy = Router(net, Policy(thresholds)), Policy(thresholds)
    with FlopCounterMode(display=False) as counter:
        answer = router(images(33))
    assert counter.get_total_flops() == 2 * int(answer.cost.sum())
    costs = dict(zip(policy.evaluated, PathCosts(net).of(policy.evaluated), strict=True))
    assert answer.cost.tolist() == [costs[exit] for exit in answer.exit.tolist()]


def test_heads_that_read_the_logits_before_get_those_of_the_same_samples():
    net = build(head(), Refining(), Refining(), head())
    policy = Policy((0.95, 0.9, 0.7))
    answer = Router(net, policy)(images(33))
    expected = by_hand(net, policy, images(33))
    assert [*zip(answer.prediction.tolist(), answer.exit.tolist(), strict=True)] == [e[:2] for e in expected]
    skipping = Policy((None, None, 0.7))  # exit 3 reads the logits of 2, which reads those of 1
    answer = Router(net, skipping)(images(33))
    assert 3 in answer.exit
    assert answer.exit.tolist() == [e[1] for e in by_hand(net, skipping, images(33))]
    counted = offramp.cost(net)
    assert answer.cost.min() == sum(counted.stages[:3]) + sum(counted.heads[:3])


class Split(nn.Module):
    """Makes a feature of named Tensors, one of which belongs to the whole batch."""

    def forward(self, x):
        return {"map": x, "mask": x[:, 0] > 0, "table": torch.ones(2, 4, 1, 1, dtype=x.dtype)}


class Join(nn.Module):
    def forward(self, feature):
        x = feature["map"] * feature["mask"][:, None] * feature["table"].sum(0)
        return {**feature, "map": x}


class ReadMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = head()

    def forward(self, feature):
        return self.head(feature["map"])


def test_every_tensor_of_a_feature_goes_with_its_samples():
    net = build(ReadMap(), ReadMap(), ReadMap())
    net.stages[0].append(Split())
    net.stages[1], net.stages[2] = Join(), Join()
    net.double()
    policy = Policy((0.5, 0.5))
    answer = Router(net, policy)(images(33))
    expected = by_hand(net, policy, images(33))
    assert [*zip(answer.prediction.tolist(), answer.exit.tolist(), strict=True)] == [e[:2] for e in expected]
    assert len(set(answer.exit.tolist())) > 1
    two = Router(net, policy)(images(33)[:2])  # as many samples as the table has rows
    assert two.exit.tolist() == answer.exit[:2].tolist()


def test_the_net_stays_as_it_was_and_the_router_as_it_is():
    net = build().train()
    before = copy.deepcopy(net.state_dict())
    router = Router(net, Policy((0.6, 0.5, 0.72)))
    answer = router(images(33))
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    nn.init.zeros_(net.heads[0][2].weight)
    assert torch.equal(router(images(33)).exit, answer.exit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_other_dtypes_and_layouts_give_the_same_answers_where_they_are_sure(dtype, memory_format):
    net, policy = build().to(dtype).to(memory_format=memory_format), Policy((0.6, 0.45, 2))
    x = images(33).to(dtype).contiguous(memory_format=memory_format)
    answer = Router(net, policy)(x)
    with torch.no_grad():
        exits = copy.deepcopy(net).double().eval()(x.double())
    away = [(z.softmax(1).amax(1) - t).abs() for z, t in zip(exits, policy.thresholds, strict=False)]
    sure = torch.stack(away).amin(0) > 0.02  # what bfloat16 rounds off within the stages is less
    expected = torch.tensor([e for _, e, _ in by_hand(net.double(), policy, x.double())])
    assert sure.sum() >= 10 and len(expected[sure].unique()) == 3
    assert torch.equal(answer.exit[sure], expected[sure])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (images(0), "no samples in the batch"),
        (images(2)[:, :1], r"reads inputs \[N, 3, 8, 8\], got \[2, 1, 8, 8\]"),
        (images(2)[0], r"reads batches \[N, 3, 8, 8\], got one sample \[3, 8, 8\]; give x\[None\]"),
        (images(2).float(), "reads torch.float64, the inputs are torch.float32; give"),
        ((images(2) > 0).long(), "reads torch.float64, the inputs are torch.int64; give"),
        ({"x": images(2)}, "reads a Tensor, got a dict of Tensors 'x'"),
        ([images(2)], "reads a Tensor, got a list of 1 Tensors"),
        (None, "reads a Tensor, got a NoneType"),
    ],
)
def test_what_is_no_input_of_the_net_gives_one_line(x, message):
    with pytest.raises(UserError, match=message):
        Router(build(), Policy((0.6, 0.5, 0.72)))(x)


@pytest.mark.parametrize("confidence", ["max-softmax", "margin", "entropy", "patience"])
def test_a_sample_of_nan_is_named(confidence):
    x = images(5)
    x[3, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="the logits of sample 3 are not numbers"):
        Router(build(), Policy((2, 2, 2), confidence))(x)
    with pytest.raises(UserError, match="the logits of sample 0 are not numbers"):
        Router(build(), Policy((2, 2, 2), confidence))(x[3:4])


def test_a_net_that_mixes_up_its_axes_is_refused():
    net = build()
    net.heads[1].append(nn.Flatten(0))
    with pytest.raises(UserError, match=r"exit 2 gives logits \[10\] for 2 samples and \[15\] for 3"):
        Router(net, Policy((0.6, 0.5, 0.72)))


def test_a_net_that_mixes_up_its_samples_is_refused():
    net = build()
    net.stages[1][1] = nn.BatchNorm2d(4, track_running_stats=False).double()
    with pytest.raises(UserError, match="logits of exit 2 for a sample depend on the other samples"):
        Router(net, Policy((0.6, 0.5, 0.72)))


@pytest.mark.parametrize("n", [1, 11])
def test_compiled_parts_give_the_same_answers_and_are_compiled_for_few_sizes(n, monkeypatch):
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    net, policy = build(), Policy((0.6, 0.45, None))
    router, plain = Router(net, policy, compile=True), Router(net, policy)
    for first in range(n):
        ours, theirs = router(images(n)[first:]), plain(images(n)[first:])
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)
    sizes = len({bucket(k) for k in range(1, n + 1)})
    assert counter.frame_count <= len(policy.evaluated) * sizes


def test_a_torch_that_counts_all_compiled_segments_together_compiles_as_many(monkeypatch):
    counter, compile = CompileCounter(), torch.compile

    def of_torch_2_11(model, *, dynamic):
        return compile(model, dynamic=dynamic, backend=counter)

    monkeypatch.setattr(torch, "compile", of_torch_2_11)
    for size in (1, 2):
        segment = compiled(nn.Linear(2, size))
        for n in range(1, 12):
            assert segment(torch.ones(n, 2)).shape == (n, size)
    assert counter.frame_count == 2 * 11


def test_buckets():
    assert [bucket(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 17, 25, 64, 65, 97)] == [
        *(1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 16, 24, 32, 64, 96, 128)
    ]


@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [1, 33])
def test_by_a_deadline_those_that_are_left_get_the_answer_of_the_exit_they_are_at(n, allowed, monkeypatch):
    net, policy = build(), Policy((0.6, 0.45, 2))
    router, clock = Router(net, policy), [0.0]
    monkeypatch.setattr("offramp.exits.router._now", lambda: clock[0])
    for step in router._net.steps:  # every stage takes a second
        step.segment.heads[-1].register_forward_hook(lambda *_: clock.__setitem__(0, clock[0] + 1))
    for _ in range(40):  # the mean, with its margin of a fifth, needs some calls
        router(images(n))
        clock[0] = 0.0
    answer = router.anytime(images(n), allowed + 0.5)
    usual = by_hand(net, policy, images(n))
    last = max(1, min(4, int(allowed + 0.5 - 0.2)))
    assert answer.exit.tolist() == [min(exit, last) for _, exit, _ in usual]
    with torch.no_grad():
        logits = copy.deepcopy(net).eval()(images(n))
    assert answer.prediction.tolist() == [
        int(logits[exit - 1][row].argmax()) for row, exit in enumerate(answer.exit.tolist())
    ]
    assert clock[0] <= max(1, allowed + 0.5)


@pytest.mark.parametrize("deadline", [-1, math.nan, "1", None])
def test_a_deadline_is_a_time(deadline):
    with pytest.raises(UserError, match="must be a number of seconds"):
        Router(build(), Policy((0.6, 0.45, 2))).anytime(images(3), deadline)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [4, 16])  # rows of 1 KiB are copied together, those of 16 KiB one by one
@pytest.mark.parametrize("movable", [False, True])
def test_rows_are_taken_in_whatever_order_they_lie(movable, size, memory_format):
    generator = torch.Generator().manual_seed(0)
    for gone in range(1, 12):
        leaves = [False] * 12
        for place in torch.randperm(12, generator=generator)[:gone].tolist():
            leaves[place] = True
        rows = Rows.staying(leaves)
        assert sorted(rows.places) == [place for place in range(12) if not leaves[place]]
        changed = [(source, place) for place, source in enumerate(rows.places) if place != source]
        assert rows.moves == changed
        x = torch.randn(12, 16, size, size, generator=generator).contiguous(memory_format=memory_format)
        expected = x[rows.places]
        taken = take(x, rows, movable=movable)
        assert torch.equal(taken, expected) and taken.is_contiguous(memory_format=memory_format)
    odd = x.permute(1, 0, 2, 3)  # whose rows are no blocks
    assert torch.equal(take(odd, Rows([2, 1], [Move(2, 0)]), movable=True), odd[[2, 1]])


class Same(nn.Module):
    def forward(self, x):
        return x


class Table(nn.Module):
    """A stage that gives rows of its own memory."""

    def __init__(self, *, registered=True):
        super().__init__()
        self.register_buffer("table", images(33)) if registered else vars(self).update(table=images(33))

    def forward(self, x):
        return self.table[: len(x)]


class Ordered(nn.Module):
    """A stage that gives its input itself where that has the layout which it wants."""

    def __init__(self, memory_format):
        super().__init__()
        self.memory_format = memory_format

    def forward(self, x):
        return x.contiguous(memory_format=self.memory_format)


@pytest.mark.parametrize(
    "stage",
    [
        Same,
        Table,
        partial(Table, registered=False),
        partial(Ordered, torch.channels_last),
        partial(Ordered, torch.contiguous_format),
    ],
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_memory_of_others_is_not_written_over(stage, layout, monkeypatch):
    monkeypatch.setattr("offramp.exits.rows.LARGE", 0)  # bytes: rows move one by one
    net = build(head(3), head(3), head(3))
    net.stages[0], net.stages[1], net.stages[2] = stage(), Same(), Same()
    net.double()
    x = images(33).contiguous(memory_format=layout)
    router = Router(net, Policy((0.985, 0.985)))
    answer = router(x)
    assert 0 < (answer.exit == 1).sum() < 12  # few enough for the others to be moved together
    assert torch.equal(x, images(33))
    assert torch.equal(router(x).exit, answer.exit)


class Named(nn.Module):
    """A stage that reads two named Tensors, of one shape and dtype."""

    def forward(self, x):
        return x["a"] - 2 * x["b"]


class Mappish(UserDict):
    """Named Tensors, as a tokenizer gives them."""


def test_named_tensors_may_come_in_any_order_and_mapping():
    torch.manual_seed(0)
    example = {"a": images(2), "b": images(2, seed=3)}
    net = MultiExitNet([Named(), Same(), Same()], [head(3), head(3), head(3)], example=example).double()
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2)
    policy = Policy((0.9, 0.9))
    named = {"a": images(9), "b": images(9, seed=3)}
    answer = Router(net, policy)(named)
    assert answer.exit.tolist() == [exit for _, exit, _ in by_hand(net, policy, named, 9)]
    for other in (dict(reversed(named.items())), Mappish(named)):
        assert torch.equal(Router(net, policy)(other).exit, answer.exit)
    with pytest.raises(UserError, match="no input 'c'"):
        Router(net, policy)(named | {"c": images(9)})
    with pytest.raises(UserError, match="input 'b' is missing"):
        Router(net, policy)({"a": images(9)})


def test_a_policy_of_other_classes_is_refused():
    with pytest.raises(UserError, match="the policy is for 2 classes, the net tells 5 apart"):
        Router(build(), Policy(((0.5, 0.6), None, None)))


def test_a_net_of_one_class_is_refused():
    net = MultiExitNet([nn.Linear(5, 5)] * 2, [nn.Linear(5, 1), nn.Linear(5, 1)], input_size=(5,))
    with pytest.raises(UserError, match="the net has one class, so that no exit can be unsure"):
        Router(net, Policy((0.5,), "margin"))


@pytest.mark.parametrize("policy", [None, "policy.json", 0.5])
def test_what_is_no_policy_gives_one_line(policy):
    with pytest.raises(UserError, match=r"^policy is .*, must be a Policy; give .* or Policy.open\(path\)$"):
        Router(build(), policy)


def check_answers(net: MultiExitNet, thresholds: tuple[float | None, ...]) -> None:
    """Check that a router answers as the net does."""
    policy = Policy(thresholds)
    answer = Router(net, policy)(images(33))
    expected = by_hand(net, policy, images(33))
    assert [*zip(answer.prediction.tolist(), answer.exit.tolist(), strict=True)] == [e[:2] for e in expected]


@pytest.mark.parametrize("thresholds", [(None, None, None), (0.6, 0.5, 0.72), (2, 2, 2), (2, None, 0.72)])
def test_layers_that_segments_share_are_folded_for_each_apart(thresholds):
    net = build()
    for stage in net.stages[2:]:
        stage[0], stage[2] = net.stages[1][0], net.stages[1][2]  # convolution and ReLU
    check_answers(net, thresholds)
    net = build()
    net.heads[2][2] = net.heads[0][2]
    check_answers(net, thresholds)


def test_a_head_that_writes_over_the_feature_is_run_or_refused():
    net = build(nn.Sequential(nn.Hardtanh(-0.1, 0.1, inplace=True), *head()), head(), head(), head())
    check_answers(net, (0.25, 0.5, 0.72))
    with pytest.raises(UserError, match=r"the logits of exit 2 are not the net's .*inplace=False"):
        Router(net, Policy((None, 0.5, 0.72)))


class Scaled(MultiExitNet):
    """A net that changes its input in a forward of its own."""

    def forward(self, x, **how):
        return super().forward(5 * x, **how)


def test_a_forward_of_its_own_is_refused():
    net = build()
    net.__class__ = Scaled
    with pytest.raises(UserError, match="the logits of exit 1 are not the net's"):
        Router(net, Policy((0.6, 0.5, 0.72)))


class Recurrent(nn.Module):
    """A stage whose feature holds a state with the batch in its second axis."""

    def forward(self, x):
        return (x, x.mean((2, 3))[None]) if isinstance(x, torch.Tensor) else x


class ReadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = head(3)

    def forward(self, feature):
        return self.head(feature[0])


def test_a_tensor_with_the_batch_in_another_axis_is_refused():
    net = build(ReadFirst(), ReadFirst(), ReadFirst())
    net.stages[0], net.stages[1], net.stages[2] = Recurrent(), Recurrent(), Recurrent()
    net.double()
    with pytest.raises(UserError, match=r"holds a Tensor \[1, 2, 3\] for 2 samples and a Tensor \[1, 3, 3\]"):
        Router(net, Policy((0.6, 0.5)))


class ReadsWeight(nn.Module):
    """A stage that reads its convolution's weight, and runs it on single images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return torch.stack([self.conv(image.to(self.conv.weight.dtype)) for image in x])


def test_convolutions_that_are_read_or_run_in_other_ways_are_routed():
    torch.manual_seed(0)
    stages = [ReadsWeight(), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)]
    net = MultiExitNet(stages, [head(), head(), head()], input_size=SIZE).eval()
    x = images(9).float()
    with torch.no_grad():
        expected = [logits.argmax(1) for logits in net(x)]
    answer = Router(net, Policy((0.3, 2)))(x)
    assert len(answer.exit.unique()) > 1
    for n, exit in enumerate(answer.exit.tolist()):
        assert answer.prediction[n] == expected[exit - 1][n]


def test_the_last_step_s_time_is_learnt(monkeypatch):
    net, clock = build(), [0.0]
    router = Router(net, Policy((2, None, None)))
    monkeypatch.setattr("offramp.exits.router._now", lambda: clock[0])
    first, last = router._net.steps
    last.segment.heads[-1].register_forward_hook(lambda *_: clock.__setitem__(0, clock[0] + 100))
    first.segment.heads[-1].register_forward_hook(lambda *_: clock.__setitem__(0, clock[0] + 1))
    router(images(9))
    assert router.anytime(images(9), 50).exit.tolist() == [1] * 9
