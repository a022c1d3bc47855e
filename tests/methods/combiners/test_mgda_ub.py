"""MGDA-UB against two gradients worked out by autograd at each fork, and against MGDA where they coincide."""

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
import torch.nn.functional as F
from jacobian_cases import PLAIN, batch, build, forward, losses_of
from steps import exit_step
from torch import nn

import offramp
from offramp import Recipe, UserError
from offramp.data import Batch
from offramp.methods import METHODS, method
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.combiners._junctions import feature_weights
from offramp.methods.combiners.mgda_ub import MGDAUB
from offramp.nets import MultiTaskNet
from offramp.tasks import Classification
from offramp.training._method_checks import check_method, check_samples


def shortest(rows):
    """Weights on the simplex of the shortest vector, of rows ``[m, n]``: the best of all supports."""
    best, found = None, None
    for bits in range(1, 2 ** len(rows)):
        s = [k for k in range(len(rows)) if bits >> k & 1]
        w = torch.linalg.lstsq(rows[s] @ rows[s].T, torch.ones(len(s), dtype=rows.dtype)).solution
        w = w / w.sum()
        if w.min() < 0:
            continue
        length = (w @ rows[s]).norm()
        if best is None or length < best:
            best, found = length, torch.zeros(len(rows), dtype=rows.dtype)
            found[s] = w
    return found


def at(losses, features):
    """The gradient of a sum of losses at some Tensors, which have one each."""
    grads = torch.autograd.grad(sum(losses), features, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(features, grads, strict=True)]


def plain_gradients(net, losses):
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(sum(losses), parameters, retain_graph=True), strict=True))


@pytest.mark.parametrize("inner", ["samples", "sums"])
@pytest.mark.parametrize("name", ["vgg7", "msdnet", "refining"])
def test_each_fork_of_an_exit_weighs_its_loss_against_the_sum_of_the_later_ones(name, inner):
    net = build(name).double()
    step, K = forward(net, *batch(name, net)), len(net.outputs)
    # the sum of the later gradients is long as it is
    losses = [loss / (1 + 2 * k) ** 2 for k, loss in enumerate(losses_of(step))]
    expected = plain_gradients(net, losses)
    decided = 0
    for j in range(K - 1):
        features = list(step.trunk[j]) if isinstance(step.trunk[j], tuple) else [step.trunk[j]]
        own, later = at(losses[j : j + 1], features), at(losses[j + 1 :], features)
        view = (lambda g: g.flatten()) if inner == "samples" else (lambda g: g.sum(0).flatten())
        w = shortest(torch.stack([torch.cat([*map(view, own)]), torch.cat([*map(view, later)])]))
        decided += bool(w.min() > 0.01)
        seeds = [(K - j) * (w[0] * a + w[1] * b) for a, b in zip(own, later, strict=True)]
        stage = dict(net.stages[j].named_parameters(prefix=f"stages.{j}"))
        expected |= zip(stage, torch.autograd.grad(features, [*stage.values()], seeds, retain_graph=True))  # noqa: B905
    net.zero_grad()
    MGDAUB(inner=inner).bind(net)(losses, step, PLAIN)
    assert decided  # at some fork both gradients count
    for key, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-6, atol=1e-12, msg=key)


def linear(samples=1):
    """One linear layer without bias as the trunk of three tasks, and a batch."""
    torch.manual_seed(0)
    tasks = {f"task {k}": Classification(target=f"task {k}") for k in range(3)}
    decoders = [nn.Sequential(nn.Tanh(), nn.Linear(6, 4)) for _ in tasks]
    net = MultiTaskNet([nn.Linear(5, 6, bias=False)], decoders, tasks, input_size=(5,)).double()
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(samples, 5, generator=draws, dtype=torch.float64)
    targets = {key: torch.randint(4, (samples,), generator=draws) for key in tasks}
    return net, Batch(inputs, targets)


def gradients(net, name, some, options=None, backward=PLAIN):
    net.zero_grad()
    bound = BoundMethod(method(name, options or {}), net)
    step = bound.step(some, net, [*net.outputs.values()], reach={"trunk"})
    bound.combine(bound.losses_of(step), step, backward)
    return {key: None if p.grad is None else p.grad.clone() for key, p in net.named_parameters()}


@pytest.mark.parametrize("inner", ["samples", "sums"])
def test_it_is_mgda_where_the_trunk_is_a_linear_layer_and_the_batch_one_sample(inner):
    """There the Gramian of the parameters is that of the features times the length of the input."""
    net, some = linear()
    found = gradients(net, "mgda-ub", some, {"inner": inner})
    joint, wanted = gradients(net, "joint", some), gradients(net, "mgda", some)
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient)
    assert (found["stages.0.weight"] - joint["stages.0.weight"]).norm() > 0.1 * joint[
        "stages.0.weight"
    ].norm()


@pytest.mark.parametrize("inner", ["samples", "sums"])
@pytest.mark.parametrize("lacking", [(), ("task 1",), ("task 0", "task 2")])
def test_tasks_are_weighed_at_the_trunks_feature(inner, lacking):
    net, some = linear(samples=7)
    some = Batch(some.inputs, {key: t for key, t in some.targets.items() if key not in lacking})
    feature = net.stages[0](some.inputs)
    rows = [
        at([F.cross_entropy(net.decoders[k](feature), some.targets[key])], [feature])[0]
        for k, key in enumerate(net.outputs)
        if key not in lacking
    ]
    flat = torch.stack([row.flatten() if inner == "samples" else row.sum(0) for row in rows])
    seed = len(rows) * sum(w * row for w, row in zip(shortest(flat), rows, strict=True))
    (wanted,) = torch.autograd.grad(feature, [net.stages[0].weight], seed)
    found, joint = gradients(net, "mgda-ub", some, {"inner": inner}), gradients(net, "joint", some)
    torch.testing.assert_close(found["stages.0.weight"], wanted)
    for key in joint.keys() - {"stages.0.weight"}:  # decoders get their own loss's, absent ones none
        torch.testing.assert_close(found[key], joint[key])


def test_exits_of_several_tasks_have_a_row_for_each_head_and_one_for_the_later_exits():
    torch.manual_seed(0)
    tasks = {f"exit {k} {key}": Classification(target=key) for k in (1, 2) for key in ("a", "b")}
    stages = [nn.Sequential(nn.Linear(5, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 6), nn.Tanh())]
    net = MultiTaskNet(stages, [nn.Linear(6, 3) for _ in tasks], tasks, input_size=(5,)).double()
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 5, generator=draws, dtype=torch.float64)
    targets = {key: torch.randint(3, (4,), generator=draws) for key in ("a", "b")}
    first = net.stages[0](inputs)
    second = net.stages[1](first)
    reads = [first, first, second, second]
    losses = [F.cross_entropy(net.decoders[k](reads[k]), targets["ab"[k % 2]]) for k in range(4)]
    for stage, feature, parts, factor in (
        (0, first, [losses[:1], losses[1:2], losses[2:]], 4),
        (1, second, [losses[2:3], losses[3:]], 2),
    ):
        rows = [at(part, [feature])[0] for part in parts]
        w = shortest(torch.stack([row.flatten() for row in rows]))
        seed = factor * sum(a * row for a, row in zip(w, rows, strict=True))
        weight = net.stages[stage][0].weight
        (wanted,) = torch.autograd.grad(feature, [weight], seed, retain_graph=True)
        found = gradients(net, "mgda-ub", Batch(inputs, targets))
        torch.testing.assert_close(found[f"stages.{stage}.0.weight"], wanted)


def test_equal_losses_give_their_sum():
    """All exits read one feature through stages that do nothing, by heads of the same weights."""
    torch.manual_seed(0)
    head = nn.Linear(6, 3)
    stages = [nn.Linear(5, 6), nn.Identity(), nn.Identity()]
    net = offramp.nets.MultiExitNet(stages, [copy.deepcopy(head) for _ in stages], input_size=(5,)).double()
    draws = torch.Generator().manual_seed(1)
    some = Batch(
        torch.randn(4, 5, generator=draws).double(), {"label": torch.randint(3, (4,), generator=draws)}
    )
    found, wanted = gradients(net, "mgda-ub", some), gradients(net, "joint", some)
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient)


def test_a_gradient_that_is_zero_has_no_say():
    gramian = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, -1.0], [0.0, -1.0, 4.0]], dtype=torch.float64)
    found = feature_weights(gramian, torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64))
    # of rows g, h with |g|^2 = 1, |h|^2 = 4, g.h = -1: w_g = (4 + 1) / (1 + 4 + 2); the factor is 3 / 1
    torch.testing.assert_close(found, torch.tensor([1.0, 15 / 7, 6 / 7], dtype=torch.float64))
    alone = feature_weights(torch.diag(torch.tensor([0.0, 4.0])).double(), torch.tensor([1.0, 3.0]).double())
    torch.testing.assert_close(alone, torch.ones(2, dtype=torch.float64))  # the later losses' plain sum


@pytest.mark.parametrize("inner", ["samples", "sums"])
def test_two_processes_find_what_their_common_batch_gives(inner):
    """Two threads, each with half of the batch, exchange what they average."""
    net, some = linear(samples=8)
    whole = gradients(net, "mgda-ub", some, {"inner": inner})
    meeting, sent = Barrier(2), [None, None]

    def train(rank):
        def average(tensor):
            sent[rank] = tensor.clone()
            meeting.wait(60)
            tensor.copy_((sent[0] + sent[1]) / 2)
            meeting.wait(60)

        part = slice(4 * rank, 4 * rank + 4)
        half = Batch(some.inputs[part], {key: target[part] for key, target in some.targets.items()})
        return gradients(copy.deepcopy(net), "mgda-ub", half, {"inner": inner}, Backward(average=average))

    with ThreadPoolExecutor(2) as threads:
        for found in threads.map(train, range(2)):
            for key, gradient in whole.items():
                torch.testing.assert_close(found[key], gradient)


def test_what_it_refuses():
    def refuses(words, net, name="mgda-ub", **options):
        with pytest.raises(UserError, match=words):
            made = method(name, options)
            BoundMethod(made, made.prepare(net))

    refuses("inner is 'all'", build("vgg7"), inner="all")
    refuses("Attentive has no fork; take mgda", build("attentive"))
    refuses("where channels are partitioned; take mgda there", build("vgg7"), "dfs+mgda-ub")
    refuses("where channels are partitioned", build("vgg7"), "dfs+ge+mgda-ub")
    refuses("where channels are partitioned", build("vgg7"), "dfs-no-reference+mgda-ub")
    refuses("where channels are partitioned", build("msdnet"), "dfs+mgda-ub", impl="cat")
    refuses("where channels are partitioned", linear()[0], "dfs+mgda-ub")
    refuses("where channels are partitioned", offramp.nets.vgg7(num_classes=3, width=4, slice_beta=0.5))
    net = build("refining")
    net.stages[1] = net.stages[2]
    refuses("one shares a parameter with another part", net)
    net = build("vgg7")
    net.stages[:-1].requires_grad_(False)  # the last stage and all heads get the plain gradient
    refuses("all of these are frozen; unfreeze one", net)
    made = method("dfs+mgda-ub", {"own_to_shared": 1})  # the shared channels hear both
    BoundMethod(made, made.prepare(build("vgg7")))
    recipe = Recipe(compile=True)
    with pytest.raises(UserError, match="compile=true puts out of reach; leave compile out"):
        check_method(recipe, METHODS["mgda-ub"])
    with pytest.raises(UserError, match="each data set has its own; take mgda, or `streams='in-turn'`"):
        check_samples(Recipe(), METHODS["mgda-ub"])
    check_samples(Recipe(streams="in-turn"), METHODS["mgda-ub"])
    step = exit_step(build("vgg7"), [torch.zeros(1, 3)] * 6, torch.tensor([0]))
    with pytest.raises(UserError, match="give the plain net and batches of one set, or take mgda"):
        MGDAUB().bind(build("vgg7"))([], step, PLAIN)


def test_a_penalty_on_weights_of_a_stage_is_refused():
    net = build("vgg7")
    step = forward(net, *batch("vgg7", net))
    losses = losses_of(step)
    losses[0] = losses[0] + next(net.parameters()).square().sum()
    with pytest.raises(UserError, match="as a penalty does, and mgda-ub"):
        MGDAUB().bind(net)(losses, step, PLAIN)


def test_an_overflow_reaches_the_gradient():
    net, some = linear()
    found = gradients(net, "mgda-ub", some, backward=Backward(scale=float("inf")))
    assert not found["stages.0.weight"].isfinite().any()


def test_forks_behind_the_last_loss_that_counts_have_nothing_to_weigh():
    net = build("vgg7").double()
    images, labels = batch("vgg7", net)
    weights = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    found = gradients(net, "mgda-ub", Batch(images, {"label": labels}), {"weights": weights})
    for name, gradient in found.items():
        assert (gradient is not None) == (name.startswith(("stages.0", "stages.1", "heads.0", "heads.1"))), (
            name
        )


def test_a_frozen_stage_is_left_alone():
    net = build("vgg7").double()
    net.stages[0].requires_grad_(False)
    step = forward(net, *batch("vgg7", net))
    MGDAUB().bind(net)(losses_of(step), step, PLAIN)
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == name.startswith("stages.0"), name


def test_the_row():
    row = METHODS["mgda-ub"]
    assert row.axes == {"combiner": "MGDAUB"}
    assert row.needs == {"rows", "trunk", "junctions"}
    assert str(row.passes_of(["depth", "normals"])) == "F + B"
