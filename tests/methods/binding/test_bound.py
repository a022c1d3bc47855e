"""A method in a loop of one's own: the gradients of the library's loop, and refusals in one line."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from binding_cases import CLASSES, assert_same, batches, grads_of, tiny_net
from torch import nn

import offramp
from offramp import Recipe, UserError
from offramp.data import Batch
from offramp.distributed.launch import launch
from offramp.methods import METHODS, method
from offramp.methods.bound import BoundMethod
from offramp.methods.loops import LoopContext, Progress
from offramp.tasks import Boxes, Classification
from offramp.tasks.classification import NO_LABEL
from offramp.training._optimizer import build_optimizer
from offramp.training._placement import model_of

OTHERWISE = [
    name
    for name, row in METHODS.items()
    if row.separate or row.loop.own_backward or row.balancer.looks_back or "regime" in row.axes
]
MINIBATCH = [name for name in METHODS if name not in OTHERWISE]
SEVERAL = ["dfs+cagrad", "kd+pcgrad", "ge+byot", "uncertainty+mgda"]


@pytest.mark.parametrize("name", [*MINIBATCH, *SEVERAL])
def test_the_steps_are_those_of_the_library_s_loop(name):
    """Three steps, most by SGD with momentum, in float64: losses, gradients and what the method remembers."""
    fabric, row = launch("fp32", "cpu"), method(name)
    recipe = Recipe(lr=0.05, optimizer="adam" if row.combiner.own_optimizer else "sgd")
    mine, theirs = tiny_net(), tiny_net()
    bound = row.bind(mine).double()
    assert isinstance(bound, BoundMethod)
    prepared = row.prepare(theirs)
    other = BoundMethod(row, prepared).double()
    bench = LoopContext(
        model=model_of(prepared, recipe, fabric, plain_backward="losses" in row.needs),
        net=prepared,
        bound=other,
        fabric=fabric,
        optimizer=lambda groups: fabric.setup_optimizers(other.optimizer(build_optimizer(groups, recipe))),
        batches=lambda number, count: iter(()),
        tasks=[*prepared.outputs.values()],
        epochs=2,
    )
    work = row.loop.bind(bench)
    optimizer = bound.optimizer(build_optimizer([*mine.parameters(), *bound.parameters()], recipe))
    bound.progress(0, 2)
    for images, labels in batches():
        expected = work.step(0, Batch(images, {"label": labels}), Progress(epoch=0, fraction=0.0, lr=0.05))
        optimizer.zero_grad()
        losses = bound.backward(images, labels)
        assert not losses.requires_grad
        assert torch.equal(losses, expected.values)
        assert_same(grads_of(mine, bound), grads_of(theirs, bench.bound))
        optimizer.step()
    assert str(bound.state_dict()) == str(bench.bound.state_dict())


@pytest.mark.parametrize("name", ["joint", "cagrad", "bdl-1", "kd"])
def test_losses_and_backward_apart(name):
    (images, labels), nets = next(batches()), (tiny_net(), tiny_net())
    method(name).bind(nets[0]).backward(images, labels)
    bound = method(name).bind(nets[1])
    losses = bound.losses(Batch(images, {"label": labels}))
    assert len(losses) == 3
    assert all(loss.requires_grad for loss in losses)
    assert torch.equal(bound.backward(losses), torch.stack(list(losses)).detach())
    assert_same(grads_of(nets[1]), grads_of(nets[0]))


@pytest.mark.parametrize("name", ["joint", "cagrad"])
def test_a_penalty_is_added_to_a_loss(name):
    """It belongs to head 1 alone, so that only that head's gradient changes, and by what calculus says."""
    (images, labels), nets = next(batches()), (tiny_net(), tiny_net())
    method(name).bind(nets[0]).backward(images, labels)
    bound = method(name).bind(nets[1])
    losses = bound.losses(images, labels)
    weight = nets[1].heads[0][-1].weight
    losses[0] = losses[0] + 3 * weight.square().sum()
    bound.backward(losses)
    nets[0].heads[0][-1].weight.grad += 6 * nets[0].heads[0][-1].weight.detach()
    assert_same(grads_of(nets[1]), grads_of(nets[0]), 1e-12)


@pytest.mark.parametrize("name", ["joint", "kd", "cagrad", "mgda", "bdl-1", "graddrop"])
def test_micro_batches_add_up_to_the_batch(name):
    """Without batch norm, which sees a micro-batch at a time."""
    (images, labels), nets = next(batches()), (tiny_net().eval(), tiny_net().eval())
    method(name).bind(nets[0]).backward(images, labels)
    bound = method(name).bind(nets[1])
    for start in (0, 2, 4):
        part = slice(start, start + 2)
        bound.backward(images[part], labels[part], share=1 / 3, more=start < 4)
    assert_same(grads_of(nets[1]), grads_of(nets[0]), 1e-9)


def test_the_method_remembers_through_its_state():
    """kd anneals its temperature, and Nash-MTL starts from its last weights."""
    found = []
    for stop in (False, True):
        net = tiny_net()
        bound = method("kd+nash-mtl").bind(net)
        for images, labels in batches(4):
            if stop:
                state = copy.deepcopy(bound.state_dict())
                bound = method("kd+nash-mtl").bind(net)
                bound.load_state_dict(state)
            net.zero_grad()
            bound.backward(images, labels)
        found.append(grads_of(net))
        assert not any("stages" in key for key in bound.state_dict())
    assert_same(*found)


@pytest.mark.parametrize("name", [*MINIBATCH, *SEVERAL])
@pytest.mark.parametrize("copied", [lambda both: pickle.loads(pickle.dumps(both)), copy.deepcopy])
def test_a_copy_of_net_and_method_in_the_middle_of_a_training_goes_on_as_they_do(name, copied):
    """By pickle, as processes that are started hand modules over, and by deepcopy."""
    if METHODS.get(name, METHODS["joint"]).combiner.own_optimizer:
        pytest.skip("its steps are those of an optimiser, of which a copy is made with it")
    net = tiny_net()
    bound = method(name).bind(net).double()
    bound.progress(0, 2)
    first, second = batches(2)
    bound.backward(*first)
    found = []
    for its_net, its_method in ((net, bound), copied((net, bound))):
        assert its_method.net is its_net
        its_net.zero_grad()
        its_method.zero_grad()
        torch.manual_seed(0)
        its_method.backward(*second)
        found.append(grads_of(its_net, its_method))
    assert_same(*found)


class Own(nn.Module):
    """Two outputs with targets of their own, and nothing that the library asks for beside the three."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(5, 4)
        self.heads = nn.ModuleList([nn.Linear(4, CLASSES), nn.Linear(4, 4)])
        self.outputs = {"class": Classification(), "box": Boxes()}

    def forward(self, x):
        feature = self.trunk(x).tanh()
        return [head(feature) for head in self.heads]

    def owners(self):
        of = {"trunk": {0, 1}, "heads.0": {0}, "heads.1": {1}}
        return {name: frozenset(of[name.rpartition(".")[0]]) for name, _ in self.named_parameters()}


@pytest.mark.parametrize("name", ["joint", "uncertainty", "cagrad", "pcgrad", "mgda"])
def test_a_net_of_one_s_own(name):
    net, inputs = Own(), torch.randn(6, 5)
    bound = method(name).bind(net)
    labels, boxes = torch.arange(6) % CLASSES, torch.rand(6, 4)
    losses = bound.backward(inputs, {"label": labels, "box": boxes})
    class_loss = nn.functional.cross_entropy(net(inputs)[0], labels)
    box_loss = nn.functional.smooth_l1_loss(net(inputs)[1], boxes, beta=0.1)
    torch.testing.assert_close(losses, torch.stack([class_loss, box_loss]).detach())
    assert all(p.grad is not None for p in net.parameters())
    # a head's gradient is its own loss's, under a combiner
    expected = torch.autograd.grad(class_loss, net.heads[0].weight)[0]
    factor = 0.5 if name == "uncertainty" else 1.0
    torch.testing.assert_close(net.heads[0].weight.grad, factor * expected)


def test_a_target_that_no_sample_has_gives_no_loss():
    net = Own()
    losses = method("cagrad").bind(net).backward(torch.randn(6, 5), {"box": torch.rand(6, 4)})
    assert losses.isnan().tolist() == [True, False]
    assert net.heads[0].weight.grad is None


@pytest.mark.parametrize("name", ["joint", "uncertainty", "cagrad", "graddrop"])
def test_a_batch_without_any_target_adds_no_gradient(name):
    """As in the library's loops: no losses, and everything rests."""
    net = Own()
    bound = method(name).bind(net)
    state = str(bound.state_dict())
    assert list(bound.losses(torch.randn(6, 5), {})) == []
    for batch in (Batch(torch.randn(6, 5), {}),), (torch.randn(6, 5), {}):
        assert bound.backward(*batch).isnan().tolist() == [True, True]
    assert all(p.grad is None for p in (*net.parameters(), *bound.parameters()))
    assert str(bound.state_dict()) == state


class Uneven(Own):
    """Classes that count differently, and boxes that some images lack."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = {"class": Classification(class_weights=[1.0, 3.0, 0.25]), "box": Boxes()}
        self.double()


def uneven_batch() -> Batch:
    draws = torch.Generator().manual_seed(4)
    labels, boxes = torch.randint(CLASSES, (9,), generator=draws), torch.rand(9, 4, generator=draws).double()
    labels[[1, 6]] = NO_LABEL
    boxes[5:] = torch.nan  # the last micro-batch has none at all
    return Batch(torch.randn(9, 5, generator=draws).double(), {"label": labels, "box": boxes})


@pytest.mark.parametrize("given", ["batch", "targets"])
@pytest.mark.parametrize("name", ["joint", "uncertainty", "cagrad", "pcgrad", "mgda", "graddrop"])
def test_micro_batches_of_any_size_and_weight_add_up_to_the_batch(name, given):
    """In float64, with a last part whose key of the boxes is left out."""
    batch, nets = uneven_batch(), (Uneven(), Uneven())
    expected = method(name).bind(nets[0]).double()
    losses = expected.backward(batch)
    bound = method(name).bind(nets[1]).double()
    found = torch.zeros(2, dtype=torch.float64)
    for start, stop in ((0, 1), (1, 5), (5, 9)):
        part = batch.map(lambda tensor, start=start, stop=stop: tensor[start:stop])
        if stop == 9:
            part = Batch(part.inputs, {"label": part.targets["label"]})
        whole = batch if given == "batch" else batch.targets
        values = bound.backward(part, whole=whole, more=stop < 9)
        found += values * (stop - start) / 9
    assert_same(grads_of(nets[1], bound), grads_of(nets[0], expected), 1e-10)
    torch.testing.assert_close(found, losses)


def test_the_targets_of_a_whole_batch_may_be_one_tensor():
    (images, labels), nets = next(batches()), (tiny_net().eval(), tiny_net().eval())
    method("cagrad").bind(nets[0]).backward(images, labels)
    bound = method("cagrad").bind(nets[1])
    bound.backward(images[:1], labels[:1], whole=labels, more=True)
    bound.backward(images[1:], labels[1:], whole=labels)
    assert_same(grads_of(nets[1]), grads_of(nets[0]), 1e-9)


def test_options_come_by_keyword_or_in_a_mapping():
    assert offramp.method("dfs+cagrad", beta=0.7) == offramp.method("dfs+cagrad", {"beta": 0.7})
    with pytest.raises(UserError, match="in a mapping or by keyword, not both"):
        offramp.method("dfs", {"beta": 0.7}, rounding="floor")
    with pytest.raises(UserError, match="bta"):
        offramp.method("dfs", bta=0.7)


def test_a_compiled_net_is_called_and_its_inside_is_bound():
    (images, labels), net = next(batches()), tiny_net()
    calls = []
    compiled = torch.compile(net, backend=lambda graph, inputs: calls.append(1) or graph.forward)
    method("cagrad").bind(compiled).backward(images, labels)
    expected = tiny_net()
    method("cagrad").bind(expected).backward(images, labels)
    assert calls
    assert_same(grads_of(net), grads_of(expected), 1e-12)


@pytest.mark.parametrize("name", ["separate", "meta-gf", "dr-mgf"])
def test_what_is_no_loop_over_batches_names_fit(name):
    with pytest.raises(UserError, match=rf"offramp\.fit\(net, data, method='{name}'\)"):
        offramp.method(name).bind(tiny_net())


def refusals():
    images, labels = next(batches())

    def bound(name="joint", net=None):
        return method(name).bind(net or tiny_net())

    def forks_changed():
        net = tiny_net()
        first = bound("joint", net)
        bound("dfs", net)
        first.losses(images, labels)

    def unfinished():
        first = bound()
        first.backward(images, labels, share=0.5, more=True)
        first.backward(images, labels, share=0.25)

    def frozen():
        bound(net=tiny_net().requires_grad_(False)).backward(images, labels)

    def sharded():
        class DTensor(nn.Parameter):
            pass

        net = Own()
        net.trunk.weight = DTensor(net.trunk.weight.detach())
        bound(net=net)

    def unnamed():
        net = Own()
        net.outputs = {"class": Classification()}
        bound(net=net).losses(torch.randn(6, 5), labels)

    def uneven(name="joint"):
        part = uneven_batch().first(3)
        bound(name, Uneven()).backward(part, share=1 / 3, more=True)

    def other_targets():
        first = bound(net=Own())
        first.backward(torch.randn(2, 5), {"label": labels[:2]}, share=0.5, more=True)
        first.backward(torch.randn(2, 5), {"box": torch.rand(2, 4)}, share=0.5)

    def longer():
        first = bound()
        losses = first.losses(images, labels)
        losses.append(losses[0])
        first.backward(losses)

    return {
        "backbone": (lambda: bound(net=nn.Linear(2, 2)), r"net is a Linear without exits.*offramp\.attach"),
        "forks": (
            lambda: bound("dfs", Own()),
            "'dfs' works where a feature forks, .* and Own has no such fork",
        ),
        "features": (lambda: bound("byot", Own()), "Own has none"),
        "progress": (lambda: bound("sdn-ramp").losses(images, labels), r"call progress\(epoch, epochs\)"),
        "epoch": (lambda: bound().progress(2, 2), "epoch is 2, must be 0 to 1"),
        "changed": (forks_changed, "no longer those that 'joint' was bound to; bind it anew"),
        "one target": (
            lambda: bound(net=Own()).losses(torch.randn(2, 5), labels),
            "give a mapping with the keys label, box",
        ),
        "no target": (lambda: bound().losses(images), "targets are a Tensor or a mapping from label to one"),
        "wrong key": (lambda: bound().losses(images, {"lable": labels}), "label .*the batch has lable"),
        "wrong second key": (
            lambda: bound(net=Own()).losses(torch.randn(6, 5), {"label": labels, "boxes": labels}),
            "use the same keys",
        ),
        "copied": (
            lambda: bound().backward([2 * loss for loss in bound().losses(images, labels)]),
            "the very list that losses",
        ),
        "sharded": (sharded, "sharded over processes .* bind it unsharded"),
        "unnamed": (unnamed, r"maps the name of every parameter to a frozenset of the outputs \(0 to 0\)"),
        "longer": (longer, "3 outputs have a target, and there are 4 losses"),
        "twice targets": (lambda: bound().losses(Batch(images, {"label": labels}), labels), "brings its"),
        "share": (lambda: bound().losses(images, labels, share=2.0), "above 0 and below 1; got 2.0"),
        "more alone": (lambda: bound().losses(images, labels, more=True), "more=True says"),
        "uneven": (uneven, "samples count differently by their 'label'.*whole=.*and no share"),
        "other targets": (other_targets, "targets for other outputs each.*by whole=.*bind anew"),
        "share and whole": (
            lambda: bound().losses(images[:2], labels[:2], whole=labels, share=0.5, more=True),
            "whole and share both say",
        ),
        "whole too small": (
            lambda: bound().losses(images, labels, whole=labels[:2], more=True),
            "these 6 samples are a part; got label of 2",
        ),
        "whole of nothing": (lambda: bound().losses(images, {}, whole={}, more=True), "give the whole Batch"),
        "whole lacks": (
            lambda: bound(net=Own()).losses(
                torch.randn(2, 5), {"box": torch.rand(2, 4)}, whole={"label": labels}, more=True
            ),
            "for box, of which these 2 samples are a part; got label of 6",
        ),
        "no Tensor": (
            lambda: bound(net=Own()).losses(torch.randn(6, 5), {"label": labels, "box": None}),
            "the target 'box' is None and no Tensor; leave the key out",
        ),
        "unfinished": (unfinished, "shares of 0.75 in all"),
        "first is last": (
            lambda: bound("cagrad").backward(images, labels, share=0.5),
            "shares of 0.5 in all",
        ),
        "whole": (
            lambda: bound("byot").losses(images, labels, share=0.5, more=True),
            "'byot' needs whole batches",
        ),
        "frozen": (frozen, "no loss depends on anything trainable"),
        "run and scaler": (
            lambda: bound().backward(images, labels, run=print, scaler=torch.amp.GradScaler("cpu")),
            "either run or a scaler",
        ),
        "run of nothing": (
            lambda: bound("cagrad").backward(images, labels, run=id),
            "run= did not call backward",
        ),
    }


@pytest.mark.parametrize("case", refusals())
def test_refusals_are_one_line(case):
    act, line = refusals()[case]
    with pytest.raises(UserError, match=line) as caught:
        act()
    assert "\n" not in str(caught.value)
