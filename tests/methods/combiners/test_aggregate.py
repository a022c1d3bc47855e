"""Aggregating combiners on nets, against TorchJD or the solver on rows from a plain loop."""

import copy
import io
import subprocess
import sys
import warnings

import pytest
import torch
import torchjd.aggregation
from gradient_rows import rows
from jacobian_cases import PLAIN, batch, build, forward, groups, losses_of, plain_loop
from steps import exit_step

from offramp.errors import UserError
from offramp.methods.combiners import Backward
from offramp.methods.combiners._scale import EXCEPTIONS
from offramp.methods.combiners._torchjd_adapter import MEAN, REFUSED, SUM, UNIT_FREE
from offramp.methods.combiners.aggregate import Aggregate
from offramp.methods.combiners.aligned_mtl import AlignedMTL
from offramp.methods.combiners.cagrad import CAGrad, cagrad_weights
from offramp.methods.combiners.fairgrad import FairGrad
from offramp.methods.combiners.getmtl import GetMTL
from offramp.methods.combiners.graddrop import GradDrop
from offramp.methods.combiners.gradvac import GradVac
from offramp.methods.combiners.imtl import IMTL, imtl_weights
from offramp.methods.combiners.jacobian import RowBlock
from offramp.methods.combiners.mgda import MGDA, mgda_weights
from offramp.methods.combiners.nash_mtl import NashMTL, nash_weights
from offramp.methods.combiners.pcgrad import PCGrad
from offramp.methods.combiners.row_combiner import BoundRowCombiner
from offramp.methods.combiners.upgrad import UPGrad, upgrad_weights

NAMED = {
    "pcgrad": PCGrad(),
    "cagrad": CAGrad(),
    "nash-mtl": NashMTL(),
    "mgda": MGDA(),
    "imtl": IMTL(),
    "graddrop": GradDrop(),
    "aligned-mtl": AlignedMTL(),
    "upgrad": UPGrad(),
    "gradvac": GradVac(),
    "fairgrad": FairGrad(),
    "getmtl": GetMTL(),
}
ARGUMENTS = {"FairGrad": {"alpha": 1.0}}
TORCHJD = {
    name: Aggregate(aggregator=name, arguments=ARGUMENTS.get(name, {})) for name in (*SUM, *MEAN, *UNIT_FREE)
}
EVERY = {**NAMED, **TORCHJD}


def taken(running, net, name="vgg7", steps=1, backward=PLAIN, **kwargs):
    """Gradients of the last of some steps, each on a batch of its own size."""
    for count in range(3, 3 + steps):
        net.zero_grad()
        step = forward(net, *batch(name, net, count), **kwargs)
        running(losses_of(step), step, backward)
    return {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


NO_STEP = exit_step(None, [torch.zeros(1, 1)] * 40, torch.tensor([0]))  # all outputs are present


class Rows:
    """An engine that has only these rows."""

    def __init__(self, J):
        self.J, self.parameter = J, torch.nn.Parameter(J.new_zeros(J.shape[1]))

    def blocks(self, losses, step, backward):
        owners = tuple(range(len(self.J)))
        yield RowBlock(owners, owners, [self.parameter], [[g.clone()] for g in self.J])


def on_rows(method, *Js):
    """The directions that a method makes of rows, one step after the other."""
    running, found = method.bind(build("vgg7")), []
    for J in Js:
        running.jacobian = Rows(J)
        running([], NO_STEP, PLAIN)
        found.append(running.jacobian.parameter.grad)
    return found[0] if len(Js) == 1 else found


# --- the scale invariant


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("name", EVERY)
def test_equal_rows_give_their_sum(name, m):
    g = rows("random", 1)[0]
    found = on_rows(EVERY[name], *[g.expand(m, -1)] * 3)
    for d in found:  # also where the state of two steps is at work
        if name not in EXCEPTIONS:
            assert torch.allclose(d, m * g, rtol=1e-6)
        elif name == "cagrad":
            assert torch.allclose(d, m * 1.4 / 1.16 * g, rtol=1e-6)
        elif name == "nash-mtl":
            assert torch.allclose(d, g / g.norm(), rtol=1e-6)
        elif name == "getmtl":
            assert torch.allclose(d, m * g / (1 - 0.15 * g.norm()), rtol=1e-6)
        else:
            assert torch.allclose(d, m**0.5 * g / g.norm(), rtol=1e-3)


def test_without_the_clip_nash_mtl_keeps_the_scale():
    g = rows("random", 1)[0]
    for solver in ("newton", "cccp"):
        d = on_rows(NashMTL(max_norm=0, solver=solver), g.expand(4, -1))
        assert torch.allclose(d, 4 * g, rtol=1e-4)


# --- each method's direction


# of DualProj and UPGrad TorchJD needs a projector that is not installed; they have a test of their own
@pytest.mark.parametrize("name", sorted({*SUM, *MEAN} - {"DualProj", "UPGrad"}))
def test_a_class_of_torchjd_gives_its_direction(name):
    random = name in ("PCGrad", "GradVac", "GradDrop", "Random")
    family = "alike" if random else "conflicting"
    J = rows(family, 4).abs() if random else rows(family, 4)
    if name == "Random":
        w = torch.linalg.lstsq(J.T, on_rows(TORCHJD[name], J)).solution
        assert w.min() > 0 and torch.isclose(w.sum(), torch.tensor(4.0).double())
        return
    expected = getattr(torchjd.aggregation, name)()(J.flip(0) if name == "PCD" else J)
    assert torch.allclose(on_rows(TORCHJD[name], J), expected * (4 if name in MEAN else 1), rtol=1e-6)


def test_dual_proj_projects_the_sum():
    from gradient_rows import projection_by_trying

    J = rows("conflicting", 4)
    assert torch.allclose(
        on_rows(TORCHJD["DualProj"], J), projection_by_trying(J, J.sum(0)), atol=1e-7 * J.norm()
    )
    assert torch.allclose(on_rows(TORCHJD["UPGrad"], J), on_rows(UPGrad(), J), rtol=1e-6)


SOLVE = {
    "cagrad": lambda G: cagrad_weights(G, 0.4),
    "nash-mtl": lambda G: nash_weights(G) / (nash_weights(G) @ G @ nash_weights(G)).sqrt().clamp_min(1),
    "mgda": mgda_weights,
    "imtl": lambda G: imtl_weights(G, 10.0),
    "aligned-mtl": lambda G: len(G) * torchjd.aggregation.AlignedMTLWeighting()(G),
    "upgrad": upgrad_weights,
}


@pytest.mark.parametrize("shared", ["per_stage", "union", "first"])
@pytest.mark.parametrize("name", SOLVE)
def test_a_step_is_the_solver_on_each_groups_rows(name, shared):
    net = build("vgg7").double()
    step = forward(net, *batch("vgg7", net))
    found = plain_loop(net, losses_of(step))
    method = type(NAMED[name])(shared=shared)
    grads = taken(method.bind(net), net)
    named = dict(net.named_parameters())
    covered = set()
    for owners, names in groups(net, shared).items():
        J = torch.stack([
            torch.cat([found[k].get(n, torch.zeros_like(named[n])).flatten() for n in names]) for k in owners
        ])  # fmt: skip
        d = SOLVE[name](J @ J.T) @ J
        mine = torch.cat([grads[n].flatten() for n in names])
        assert torch.allclose(mine, d, rtol=0, atol=1e-8 * J.norm())
        covered |= set(names)
    for n, grad in grads.items():  # heads, and whatever is not shared in this reading
        if n not in covered:
            plain = sum(row[n] for row in found if n in row)
            assert torch.allclose(grad, plain, rtol=1e-9, atol=1e-12)


def test_pcgrad_of_two_rows():
    g, h = torch.tensor([1.0, 0.0]).double(), torch.tensor([-1.0, 1.0]).double()
    d = on_rows(PCGrad(), torch.stack([g, h]))
    assert torch.allclose(d, (g + 0.5 * h) + (h + g))


def test_graddrop_passes_one_sign_and_is_the_sum_in_the_mean():
    J = torch.tensor([[1.0, -1.0, 2.0, 0.0], [3.0, -2.0, -1.0, 0.0]]).double()
    found = torch.stack(on_rows(GradDrop(), *[J] * 400))
    assert torch.equal(found[:, 0], torch.full((400,), 4.0).double())
    assert torch.equal(found[:, 1], torch.full((400,), -3.0).double())
    assert set(found[:, 2].tolist()) == {2.0, -1.0}
    assert abs(float(found[:, 2].mean()) - 1) < 5 * 1.5 / 400**0.5  # P(2) = 2/3, standard deviation sqrt(2)
    assert not found[:, 3].any()
    assert torch.equal(on_rows(GradDrop(leak=1), J), J.sum(0))


def test_graddrop_draws_anew_for_each_group_and_step():
    J = rows("random", 3, n=500)
    first, second = on_rows(GradDrop(), J, J)
    assert not torch.equal(first, second)


def test_imtl_descends_where_the_published_weights_ascend():
    for seed in range(60):
        J = rows("alike, of very different norms", 5, seed)
        if (J @ torchjd.aggregation.IMTLG()(J)).min() < 0:
            assert (J @ on_rows(IMTL(), J)).min() > 0
            return
    raise AssertionError("no such rows")


# --- lean, every, part


@pytest.mark.parametrize("shared", ["union", "first"])
@pytest.mark.parametrize("name", ["cagrad", "nash-mtl", "upgrad"])
def test_lean_is_rows_without_the_rows(name, shared):
    net = build("resnet18").double()
    kind = type(NAMED[name])
    grads = [
        taken(kind(shared=shared, lean=lean).bind(net), net, "resnet18") for lean in (False, True)
    ]  # fmt: skip
    for n, grad in grads[0].items():
        assert torch.allclose(grads[1][n], grad, rtol=1e-7, atol=1e-9 * float(grad.abs().max()) + 1e-12), n


def test_weights_can_be_kept_for_some_steps():
    net = build("vgg7").double()
    running = NashMTL(shared="union", every=2).bind(net)
    taken(running, net)
    first = copy.deepcopy(running.refreshed.weights)
    taken(running, net, steps=1)
    assert running.refreshed.weights == first
    taken(running, net, steps=2)
    assert running.refreshed.weights != first


# --- trouble


def balanced():
    return torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]]).double()


@pytest.mark.parametrize("method", [NashMTL(max_norm=0), NashMTL(max_norm=0, solver="cccp"), IMTL()])
def test_a_solver_that_fails_keeps_the_last_weights_and_says_so_once(method):
    good, bad = rows("random", 3, n=2), balanced()
    if isinstance(method, IMTL):
        good, bad = good[:2], torch.tensor([[1.0, 0.0], [-2.0, 0.0]]).double()
    good = torch.eye(len(good), 2).double() + torch.tensor([[2.0, 1.0]]).double()
    running = method.bind(build("vgg7"))
    running.jacobian = Rows(good)
    running([], NO_STEP, PLAIN)
    weights = running.weights[tuple(range(len(good)))].clone()
    assert not torch.equal(weights, torch.ones(len(good)).double())
    with pytest.warns(RuntimeWarning, match="found no weights at step 2.*keeps the last ones") as caught:
        for _ in range(3):
            running.jacobian = Rows(bad)
            running([], NO_STEP, PLAIN)
            assert torch.allclose(running.jacobian.parameter.grad, weights @ bad)
    assert len(caught) == 1


def test_a_solver_that_fails_at_once_gives_the_sum():
    with pytest.warns(RuntimeWarning):
        assert torch.equal(on_rows(NashMTL(), balanced()), balanced().sum(0))


@pytest.mark.parametrize("name", ["pcgrad", "nash-mtl", "mgda", "graddrop", "aligned-mtl", "GradVac", "PCD"])
def test_an_overflow_reaches_the_gradient_and_not_the_memory(name):
    J, method = rows("random", 3), EVERY[name]
    running = method.bind(build("vgg7"))
    running.jacobian = Rows(J)
    running([], NO_STEP, PLAIN)
    before = copy.deepcopy(running.get_extra_state())
    over = J.clone()
    over[1, 0] = torch.inf
    running.jacobian = Rows(over)
    running([], NO_STEP, PLAIN)
    assert not running.jacobian.parameter.grad.isfinite().all()
    after = running.get_extra_state()
    before["steps"] += 1
    assert repr(after) == repr(before)


@pytest.mark.parametrize("name", NAMED)
def test_a_row_of_zeros_does_not_stop_the_others(name):
    J = rows("random", 3)
    J[1] = 0
    d = on_rows(NAMED[name], J)
    assert d.isfinite().all()
    assert d.norm() > 0
    if name not in ("graddrop", "pcgrad"):  # random
        assert torch.allclose(d, on_rows(NAMED[name], J[[0, 2]]))


def test_loss_scaling_changes_nothing():
    net = build("vgg7").double()
    for name in ("cagrad", "nash-mtl", "graddrop"):
        plain = taken(NAMED[name].bind(net), net)
        scaled = taken(NAMED[name].bind(net), net, backward=Backward(scale=1024.0))
        for n, grad in plain.items():
            assert torch.allclose(scaled[n] / 1024, grad, rtol=1e-9, atol=1e-14)


# --- memory


@pytest.mark.parametrize(
    "name", ["pcgrad", "nash-mtl", "graddrop", "GradVac", "PCD", "ExcessMTL", "Random", "cagrad"]
)
def test_a_restart_changes_nothing(name):
    net = build("vgg7").double()
    method = EVERY[name]
    running = method.bind(net)
    taken(running, net, steps=2)
    file = io.BytesIO()
    torch.save(running.state_dict(), file)
    file.seek(0)
    again = method.bind(net)
    again.load_state_dict(torch.load(file, weights_only=True))
    torch.manual_seed(123)  # the draws do not depend on torch's generator
    whole, resumed = taken(running, net, steps=2), taken(again, net, steps=2)
    fresh = taken(method.bind(net), net, steps=2)
    for n, grad in whole.items():
        assert torch.equal(resumed[n], grad), n
    if name not in ("cagrad", "nash-mtl", "ExcessMTL"):  # which forgets nothing here: one row has it all
        assert any(not torch.equal(fresh[n], grad) for n, grad in whole.items())


def test_a_state_can_be_saved_before_it_is_used():
    net = build("vgg7").double()
    running = EVERY["GradVac"].bind(net)
    taken(running, net)
    middle = EVERY["GradVac"].bind(net)
    middle.load_state_dict(running.state_dict())
    last = EVERY["GradVac"].bind(net)
    last.load_state_dict(middle.state_dict())
    a, b = taken(running, net), taken(last, net)
    assert all(torch.equal(b[n], a[n]) for n in a)


@pytest.mark.parametrize("name", ["pcgrad", "graddrop", "Random"])
def test_draws_leave_torchs_generator_alone(name):
    net = build("vgg7")
    running = EVERY[name].bind(net)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    taken(running, net)
    assert torch.equal(torch.rand(3), expected)


def test_groups_have_memories_of_their_own():
    net = build("vgg7").double()
    running = NashMTL().bind(net)
    taken(running, net)
    assert set(running.weights) == set(groups(net, "per_stage"))


# --- options


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CAGrad(c=1.0), r"c is 1.0, must be a number from 0 to below 1"),
        (lambda: CAGrad(shared="stage"), "shared is .*, must be per_stage, union, first or all"),
        (lambda: CAGrad(every=2), "every saves nothing .*`shared='union'`"),
        (lambda: CAGrad(every=0), "every is 0, must be a whole number of at least 1"),
        (lambda: CAGrad(part=0.0, shared="union"), "part is 0.0, must be a number above 0 and up to 1"),
        (lambda: CAGrad(lean=True), "lean saves nothing"),
        (lambda: CAGrad(lean="yes"), "lean is 'yes', must be true or false"),
        (lambda: NashMTL(solver="newtonn"), "did you mean 'newton'"),
        (lambda: NashMTL(max_norm=-1), "max_norm is -1, must be a number above 0, or 0"),
        (lambda: IMTL(max_weight=0.5), "max_weight is 0.5, must be a number of 1 or more"),
        (lambda: GradDrop(leak=2), "leak is 2, must be a number from 0 to 1"),
        (lambda: GradDrop(shared="everything"), "shared is .*, must be"),
        (lambda: AlignedMTL(scale_mode="mean"), "scale_mode is .*, must be min, median or rmse"),
        (lambda: Aggregate(aggregator="GradVacc"), "did you mean 'GradVac'"),
        (lambda: Aggregate(aggregator="GradVac", arguments={"betta": 1}), "did you mean 'beta'"),
        (lambda: Aggregate(aggregator="GradVac", arguments={"beta": 7}), "must be in"),
        (lambda: Aggregate(aggregator="GradVac", arguments={"beta": [1]}), "a number or a word"),
        (lambda: Aggregate(aggregator="GradVac", arguments="beta"), "arguments are the aggregator's"),
        (lambda: Aggregate(aggregator="FairGrad"), "alpha"),
        (lambda: Aggregate(aggregator="ConFIG", shared="union", lean=True), "needs the rows themselves"),
        (lambda: Aggregate(aggregator="MoDoWeighting"), "two or three independent batches"),
        (lambda: Aggregate(aggregator="Krum"), "drops whole exits"),
        (lambda: Aggregate(aggregator="UW"), "weighs losses, not gradients; use the method uncertainty"),
        (lambda: Aggregate(aggregator="STCH"), "use the method scalarize with scalarization=STCH"),
    ],
)
def test_bad_options_are_refused_in_one_line(make, words):
    with pytest.raises(UserError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_every_class_of_torchjd_is_accounted_for():
    known = {*SUM, *MEAN, *UNIT_FREE, *REFUSED}
    for module in (torchjd.aggregation, __import__("torchjd.scalarization").scalarization):
        for name in module.__all__:
            if name.endswith(("Weighting", "Aggregator", "Scalarizer")) and name.removesuffix(
                "Weighting"
            ) in (
                "",
                "Aggregator",
                "WeightedAggregator",
                "GramianWeightedAggregator",
                "Scalarizer",
            ):
                continue
            assert name.removesuffix("Weighting") in known, name


def test_a_missing_extra_is_named(monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        "torchjd._mixins.find_spec", lambda name, *a: None if name == "scipy" else found(name, *a)
    )
    with pytest.raises(UserError, match=r"FairGrad.*scipy"):
        Aggregate(aggregator="FairGrad", arguments={"alpha": 1.0})


def test_nothing_of_the_net_is_in_the_state():
    running = CAGrad().bind(build("vgg7"))
    assert isinstance(running, BoundRowCombiner)
    assert not list(running.parameters())
    assert list(running.state_dict()) == ["_extra_state"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        running.load_state_dict(running.state_dict())


def test_who_needs_more_than_the_gramian():
    from offramp.methods.combiners._torchjd_adapter import MATRIX

    for name, method in TORCHJD.items():
        running = method.bind(build("vgg7"))
        assert isinstance(running, BoundRowCombiner) == (name not in MATRIX)


def test_the_table_of_methods_does_not_import_torchjd():
    code = "import sys, offramp.methods; sys.exit('torchjd' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
