"""Steps in which some outputs have no target: every combiner against a slow loop over the present rows."""

import dataclasses
import io

import pytest
import torch
import torch.nn.functional as F
from attentive import Attentive
from jacobian_cases import PLAIN, batch, build, forward
from torch import nn

from offramp.methods.combiners import Backward, Sum
from offramp.methods.combiners.aggregate import Aggregate
from offramp.methods.combiners.aligned_mtl import AlignedMTL
from offramp.methods.combiners.cagrad import CAGrad
from offramp.methods.combiners.graddrop import GradDrop
from offramp.methods.combiners.imtl import IMTL
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.combiners.mgda import MGDA
from offramp.methods.combiners.nash_mtl import NashMTL
from offramp.methods.combiners.pcgrad import PCGrad
from offramp.methods.combiners.upgrad import UPGrad
from offramp.methods.combiners.windows import WINDOWS, Windows, first_blocks
from offramp.methods.objectives import Step
from offramp.methods.objectives.task_loss import TaskLoss
from offramp.tasks import Boxes, Classification

TASKS = [Classification(target="color"), Boxes(target="box"), Classification(target="shape")]
ABSENT = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
SCOPES = ["per_stage", "union", "first", "all"]
CHEAPER = [{"lean": True}, {"every": 2}, {"lean": True, "every": 2}]
WEIGHTED = {
    "pcgrad": PCGrad,
    "cagrad": CAGrad,
    "nash-mtl": NashMTL,
    "mgda": MGDA,
    "imtl": IMTL,
    "aligned-mtl": AlignedMTL,
    "upgrad": UPGrad,
}


def decoders():
    """Three decoders with tasks of their own: the trunk is everyone's, ``pair`` of the last two."""
    net = build("decoders")
    net.decoders[1] = nn.Linear(6, 4)
    return net.double().eval()  # micro-batches would have batch statistics of their own


def attentive():
    """Three tasks that read the trunk everywhere, and call a layer of it by themselves."""
    torch.manual_seed(0)
    return Attentive().double().eval()


MAKERS = [decoders, attentive]


def steps_of(net, absent=(), *, accumulate=1, count=6, part=False):
    """The step of a batch that lacks the targets of some outputs, or those of its micro-batches."""
    draw = torch.Generator().manual_seed(2)
    images = batch("attentive" if isinstance(net, Attentive) else "decoders", net, count)[0]
    targets = {
        "color": torch.randint(5, (count,), generator=draw),
        "box": torch.rand(count, 4, generator=draw, dtype=torch.float64),
        "shape": torch.randint(5, (count,), generator=draw),
    }
    there = {t.target: targets[t.target] for k, t in enumerate(TASKS) if k not in absent}
    for number, piece in enumerate(torch.arange(count).tensor_split(accumulate), 1):
        mine = {key: target[piece] for key, target in there.items()}
        step = Step(
            net,
            net(images[piece]),
            TASKS,
            mine,
            whole=there if accumulate > 1 else None,
            share=len(piece) / count,
            more=number < accumulate,
        )
        if part:
            half = Step(net, net(images[: count // 2]), TASKS, {k: t[: count // 2] for k, t in mine.items()})
            step = dataclasses.replace(step, part=lambda share, half=half: (TaskLoss()(half), half))
        yield step


def run(combiner, net, steps, backward=PLAIN):
    """The gradients that a combiner at work leaves, by parameter name."""
    net.zero_grad()
    for step in steps:
        combiner([step.share * loss for loss in TaskLoss()(step)], step, backward)
    return {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


def rows_of(net, step):
    """Present output -> parameter name -> gradient, by one backward pass for each loss."""
    named = {n: p for n, p in net.named_parameters() if p.requires_grad}
    rows = {}
    for k, loss in zip(step.present, TaskLoss()(step), strict=True):
        grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
        rows[k] = {n: g for n, g in zip(named, grads, strict=True) if g is not None}
    return rows


def groups_by_hand(net, shared):
    """The parameters that are combined together, whoever is present."""
    names = [n for n, p in net.named_parameters() if p.requires_grad]
    trunk, pair, heads = ([n for n in names if n.startswith(part)] for part in ("trunk", "pair", "decoders"))
    found = {
        "per_stage": [trunk, pair],
        "first": [trunk],
        "union": [[*trunk, *pair]],
        "all": [[*trunk, *pair, *heads]],
    }
    return found[shared]


def matrices(net, rows, shared):
    """For each group with two or more present rows: its names, its present outputs, its rows ``[m, n]``."""
    fewest = 1 if shared == "all" else 2
    for names in groups_by_hand(net, shared):
        mine = [n for n in names if sum(n in row for row in rows.values()) >= fewest]
        present = [k for k, row in rows.items() if any(n in row for n in mine)]
        if len(present) > 1:
            zeros = {n: torch.zeros_like(net.get_parameter(n)) for n in mine}
            flat = [torch.cat([rows[k].get(n, zeros[n]).flatten() for n in mine]) for k in present]
            yield mine, present, torch.stack(flat)


def slow_loop(net, step, shared, direct):
    """What a combiner must leave, where ``direct(rows [m, n])`` gives the weights ``[m]`` of a group."""
    rows = rows_of(net, step)
    factors = {}
    for names, present, J in matrices(net, rows, shared):
        weights = dict(zip(present, direct(J).tolist(), strict=True))
        factors.update(dict.fromkeys(names, weights))
    found = {}
    for name, _ in net.named_parameters():
        terms = [factors.get(name, {}).get(k, 1.0) * row[name] for k, row in rows.items() if name in row]
        found[name] = sum(terms[1:], start=terms[0]) if terms else None
    return found


def assert_same(found, wanted):
    for name, gradient in wanted.items():
        assert (found[name] is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-10, msg=name)


def weights_by(method):
    """The weights of a group's rows from the method's own solver, which has tests of its own."""
    weigh = method.weighting()
    return lambda J: weigh(J @ J.T, torch.ones(len(J), dtype=torch.float64))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("shared", SCOPES)
@pytest.mark.parametrize("name", WEIGHTED)
def test_rows_are_those_of_the_present_outputs(make, name, shared, absent, accumulate):
    """Two rows at most: PCGrad's random order has then nothing to choose."""
    net, method = make(), WEIGHTED[name](shared=shared)
    found = run(method.bind(net), net, steps_of(net, absent, accumulate=accumulate))
    assert_same(found, slow_loop(net, *steps_of(net, absent), shared, weights_by(method)))
    for k in absent:
        assert all(p.grad is None for p in net.decoders[k].parameters())
    if {1, 2} <= set(absent):
        assert all(p.grad is None for p in net.pair.parameters())


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("options", [*CHEAPER, {"part": 0.5}, {"part": 0.5, "every": 2}])
@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("shared", SCOPES[1:])
def test_without_the_rows_too(make, shared, absent, options):
    net, method = make(), MGDA(shared=shared, **options)
    (step,) = steps_of(net, absent)
    direct = weights_by(method)
    if "part" in options:
        (some,) = steps_of(net, absent, part=True)
        _, half = some.part(0.5)
        made = iter([direct(J) for *_, J in matrices(net, rows_of(net, half), shared)])
        wanted = slow_loop(net, step, shared, lambda J: next(made))
    else:
        wanted = slow_loop(net, step, shared, direct)
    assert_same(run(method.bind(net), net, steps_of(net, absent, part=True)), wanted)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("absent", ABSENT)
def test_the_sum_is_that_of_the_present_losses(make, absent):
    net = make()
    wanted = slow_loop(net, *steps_of(net, absent), "union", lambda J: torch.ones(len(J)))
    for combiner in (Sum(), CAGrad(c=0), GradDrop(leak=1.0), Aggregate(aggregator="Sum")):
        assert_same(run(combiner.bind(net), net, steps_of(net, absent)), wanted)


def test_a_step_without_any_target_gives_no_gradient():
    net = decoders()
    for method in (Sum(), MGDA(), MGDA(shared="union", lean=True), GradDrop()):
        assert set(run(method.bind(net), net, steps_of(net, (0, 1, 2))).values()) == {None}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("shared", SCOPES)
def test_graddrop_drops_signs_of_the_present_rows(make, shared, absent):
    net = make()
    found = run(GradDrop(shared=shared).bind(net), net, steps_of(net, absent))
    rows = rows_of(net, *steps_of(net, absent))
    for name, gradient in found.items():
        mine = [row[name] for row in rows.values() if name in row]
        if not mine:
            assert gradient is None
            continue
        J = torch.stack(mine)
        ups, downs = J.clamp_min(0).sum(0), J.clamp_max(0).sum(0)
        close = [torch.isclose(gradient, side, rtol=1e-9, atol=1e-12) for side in (ups, downs, J.sum(0))]
        grouped = any(name in names for names, *_ in matrices(net, rows, shared))
        assert bool((close[0] | close[1]).all() if grouped else close[2].all()), name


@pytest.mark.parametrize("absent", [(0,), (2,), (1, 3), (0, 1, 2), (1, 2, 3)])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_stay_where_they_are(window, absent):
    """Loss k reaches the blocks of window k, whichever others are absent."""
    net = build("vgg7").double().eval()
    images, labels = batch("vgg7", net)
    step = forward(net, images, labels)
    tasks = [Classification(target=f"label {k}") for k in range(len(step.outputs))]
    targets = {task.target: labels for k, task in enumerate(tasks) if k not in absent}
    step = dataclasses.replace(step, tasks=tasks, targets=targets)
    wanted = {n: None for n, _ in net.named_parameters()}
    starts = first_blocks(window, net.num_exits)
    named = dict(net.named_parameters())
    for k in step.present:
        loss = F.cross_entropy(step.outputs[k], labels)
        for n, g in zip(named, torch.autograd.grad(loss, list(named.values()), retain_graph=True,
                                                   allow_unused=True), strict=True):  # fmt: skip
            block = int(n.split(".")[1]) if n.startswith("stages") else k
            if g is not None and block >= starts[k]:
                wanted[n] = g if wanted[n] is None else wanted[n] + g
    assert_same(run(Windows(window=window).bind(net), net, [step]), wanted)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_processes_average_what_is_present(make, scale):
    net = make()
    backward = Backward(scale=scale, average=lambda tensor: tensor.mul_(0.5))
    for method in (UPGrad(), UPGrad(shared="union", lean=True), UPGrad(shared="all")):
        found = run(method.bind(net), net, steps_of(net, (0,)), backward)
        plain = run(method.bind(net), net, steps_of(net, (0,)))
        assert_same(found, {n: None if g is None else g * (scale / 2) for n, g in plain.items()})


# --- memory


def history(method, patterns):
    """A combiner after some steps, each with other outputs absent, and its gradients at each of them."""
    net = decoders()
    bound = method.bind(net, seed=1)
    return bound, [run(bound, net, steps_of(net, absent, count=4 + i)) for i, absent in enumerate(patterns)]


@pytest.mark.parametrize("aggregator", ["GradVac", "PCD", "ExcessMTL"])
def test_no_memory_is_taken_for_that_of_other_rows(aggregator):
    """Two rows, but other ones: the second step is as if it were the first with these rows."""
    method = Aggregate(aggregator=aggregator)
    bound, _ = history(method, [(0,), (1,), (2,), ()])
    memory = bound.weightings if hasattr(bound, "weightings") else bound.aggregators
    assert len(memory) == 5  # the trunk with each of four sets of rows, the pair with its own at two steps
    _, mixed = history(method, [(2,), (1,)])
    net = decoders()
    alone = method.bind(net, seed=1)
    alone.steps = 1
    assert_same(mixed[1], run(alone, net, steps_of(net, (1,), count=5)))


def test_trunk_and_pair_do_not_become_one_group_where_the_first_output_is_absent():
    net = decoders()
    (step,) = steps_of(net, (0,))
    blocks = list(Jacobian(net).blocks(TaskLoss()(step), step, PLAIN))
    assert {(block.group, block.owners) for block in blocks} == {((0, 1, 2), (1, 2)), ((1, 2), (1, 2))}


def test_kept_weights_belong_to_the_outputs_that_they_were_made_for():
    """Each set of present outputs is refreshed at its own pace."""
    net, method = decoders(), MGDA(shared="union", every=2)
    bound, direct = method.bind(net), weights_by(method)
    for absent, count, fresh in [((), 4, 4), ((0,), 5, 5), ((), 6, 4), ((0,), 7, 5), ((0,), 8, 8)]:
        (made_of,) = steps_of(net, absent, count=fresh)
        made = iter([direct(J) for *_, J in matrices(net, rows_of(net, made_of), "union")])
        (step,) = steps_of(net, absent, count=count)
        wanted = slow_loop(net, step, "union", lambda J, made=made: next(made))
        assert_same(run(bound, net, steps_of(net, absent, count=count)), wanted)


@pytest.mark.parametrize(
    "method", [Aggregate(aggregator="GradVac"), NashMTL(shared="union", every=2), GradDrop(), PCGrad()]
)
def test_a_restart_between_changes_nothing(method):
    patterns = [(0,), (), (2,), (0,), (), (2,)]
    _, wanted = history(method, patterns)
    bound, _ = history(method, patterns[:3])
    file = io.BytesIO()
    torch.save(bound.state_dict(), file)
    file.seek(0)
    net = decoders()
    again = method.bind(net, seed=1)
    again.load_state_dict(torch.load(file, weights_only=True))
    for i, absent in enumerate(patterns[3:], 3):
        found = run(again, net, steps_of(net, absent, count=4 + i))
        assert all(
            (g is None and wanted[i][n] is None) or torch.equal(g, wanted[i][n]) for n, g in found.items()
        )


def test_kept_weights_of_old_checkpoints_are_those_of_all_outputs():
    bound = MGDA(shared="union", every=3).bind(decoders())
    weights = {(0, 1, 2): {0: 0.5, 1: 1.5, 2: 1.0}}
    bound.refreshed.set_extra_state({"age": 2, "weights": weights})
    assert bound.refreshed.ages == {(): 2}
    assert bound.refreshed.weights == {(): weights}


@pytest.mark.parametrize("make", [lambda: MGDA().bind(decoders()), lambda: Windows().bind(build("vgg7"))])
def test_losses_that_do_not_fit_the_present_outputs_are_refused(make):
    (step,) = steps_of(decoders(), (1,))
    with pytest.raises(ValueError, match="3 losses for 2 outputs"):
        make()([torch.zeros(())] * 3, step, PLAIN)
