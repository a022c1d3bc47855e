"""The engine as training uses it: precisions, layouts, compiled nets, processes, memory."""

from __future__ import annotations

import copy
import threading
import weakref

import pytest
import torch
from jacobian_cases import (
    PLAIN,
    batch,
    build,
    cut_everywhere,
    expected,
    forward,
    losses_of,
    plain_loop,
    weights,
)
from torch import Tensor
from torchjd import autojac

from offramp.forks import partition
from offramp.methods.combiners import Backward
from offramp.methods.combiners.jacobian import Jacobian, engine
from offramp.methods.objectives import Step

ENGINES = [("per_stage", False), ("union", False), ("union", True)]


def grads(net) -> dict[str, Tensor | None]:
    return {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


def run(net, step, backward=PLAIN, shared="per_stage", lean=False):
    net.zero_grad()
    for block in Jacobian(net, shared, lean=lean).blocks(losses_of(step), step, backward):
        block.combine(weights(block.owners))
    return grads(net)


def assert_close(found, wanted, tolerance):
    """Relative to the largest number of each gradient."""
    for name, gradient in wanted.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            error = (found[name] - gradient).abs().max()
            assert error <= tolerance * gradient.abs().max().clamp(min=1e-3), (name, float(error))


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float16, 2.0**10)])
@pytest.mark.parametrize("name", ["vgg7", "resnet18", "vgg7-dfs"])
def test_half_precision_with_batch_norm_in_train_mode(name, dtype, scale):
    """The same numbers as the plain loop's under the same autocast, and close to those without."""
    name, _, dfs = name.partition("-")
    net = build(name).train()
    if dfs:
        partition(net, beta=0.5)
    images, targets = batch(name, net, 8)
    statistics = copy.deepcopy(dict(net.named_buffers()))

    def half(**options) -> Step:
        with torch.autocast("cpu", dtype=dtype):
            return forward(net, images, targets, **options)

    exact = plain_loop(net, losses_of(forward(net, images, targets)))
    rows = [
        {n: g / scale for n, g in row.items()}
        for row in plain_loop(net, [scale * loss for loss in losses_of(half(trunk=False))])
    ]
    backward = Backward(scale=scale)
    for shared, lean in ENGINES:
        net.load_state_dict(statistics, strict=False)
        found = run(net, half(), backward, shared, lean)
        once = copy.deepcopy(dict(net.named_buffers()))
        net.load_state_dict(statistics, strict=False)
        forward(net, images, targets)
        for n, b in net.named_buffers():  # one update of the running statistics
            assert torch.allclose(once[n].float(), b.float(), rtol=0.1, atol=0.05), n
        wanted = {n: scale * g for n, g in expected(net, rows, shared).items()}
        # one weighted pass in half precision rounds otherwise than the sum of single ones
        assert_close(found, wanted, 0.1 if lean else 1e-4)
        ours, theirs, precise = (
            torch.cat([g.flatten() for g in gradients.values()])
            for gradients in (found, wanted, expected(net, exact, shared))
        )
        nearness = torch.cosine_similarity(theirs, precise, dim=0)  # what autocast leaves depends on the CPU
        assert nearness > 0.9
        assert torch.cosine_similarity(ours, precise, dim=0) > nearness - 0.01


def test_rows_are_free_of_the_loss_scale():
    net = build("vgg7")
    images, targets = batch("vgg7", net)

    def gramians(scale):
        step = forward(net, images, targets)
        return [b.gramian() for b in Jacobian(net).blocks(losses_of(step), step, Backward(scale=scale))]

    for found, wanted in zip(gramians(2.0**16), gramians(1.0), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)


def test_an_overflow_stays_visible():
    """A scaler skips the step when it meets a number that is not finite, also behind a weight 0."""
    net = build("vgg7")
    step = forward(net, *batch("vgg7", net))
    losses = losses_of(step)
    losses[2] = losses[2] * float("inf")
    for block in Jacobian(net).blocks(losses, step, PLAIN):
        if 2 in block.owners:
            assert not block.gramian().isfinite().all()
        block.combine(torch.tensor([0.0 if j == 2 else 1.0 for j in block.owners]))
    assert not all(p.grad.isfinite().all() for p in net.stages[0].parameters())


@pytest.mark.parametrize(("shared", "lean"), ENGINES)
def test_channels_last(shared, lean):
    net = build("vgg7").to(memory_format=torch.channels_last)
    images, targets = batch("vgg7", net)
    images = images.contiguous(memory_format=torch.channels_last)
    rows = plain_loop(net, losses_of(forward(net, images, targets, trunk=False)))
    found = run(net, forward(net, images, targets), shared=shared, lean=lean)
    assert_close(found, expected(net, rows, shared), 1e-4)


@pytest.mark.parametrize(("shared", "lean"), ENGINES)
def test_frozen_first_stages(shared, lean, monkeypatch):
    monkeypatch.setattr(engine, "choose_cuts", cut_everywhere)
    net = build("vgg7")
    net.stages[:2].requires_grad_(False)
    images, targets = batch("vgg7", net)
    rows = plain_loop(net, losses_of(forward(net, images, targets, trunk=False)))
    found = run(net, forward(net, images, targets), shared=shared, lean=lean)
    assert_close(found, expected(net, rows, shared), 1e-4)


@pytest.mark.parametrize(("shared", "lean"), ENGINES)
def test_rows_are_averaged_before_the_gramian(shared, lean):
    """Two threads stand for processes with half of the batch each: the Gramian of the mean rows."""
    net = build("vgg7").double().eval()  # batch statistics would differ between halves
    images, targets = batch("vgg7", net, 4)
    rows = plain_loop(net, losses_of(forward(net, images, targets)))
    wanted = expected(net, rows, shared)
    barrier, slots = threading.Barrier(2), [None, None]
    results: list = [None, None]

    def process(rank):
        mine = copy.deepcopy(net)

        def average(tensor):
            slots[rank] = tensor
            barrier.wait(30)
            mean = (slots[0] + slots[1]) / 2
            barrier.wait(30)
            tensor.copy_(mean)

        backward = Backward(average=average)
        step = forward(mine, images[rank::2], targets[rank::2])
        found = []
        for block in Jacobian(mine, shared, lean=lean).blocks(losses_of(step), step, backward):
            found.append((block.owners, block.gramian()))
            block.combine(weights(block.owners))
        results[rank] = found, grads(mine)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    step = forward(net, images, targets)
    for block in Jacobian(net, shared, lean=lean).blocks(losses_of(step), step, PLAIN):
        for found, _ in results:
            torch.testing.assert_close(dict(found)[block.owners], block.gramian(), rtol=1e-9, atol=1e-12)
    for _, found in results:
        assert_close(found, wanted, 1e-10)


def test_a_dropped_block_leaves_nothing_behind():
    """Of all rows only those of one group are alive at any time."""
    net = build("vgg7")
    step = forward(net, *batch("vgg7", net))
    old: list[weakref.ref] = []
    stream = Jacobian(net).blocks(losses_of(step), step, PLAIN)
    for block in stream:
        assert not [r for r in old if r() is not None]
        old = [weakref.ref(g) for row in block.rows for g in row]
        assert old
        del block
        assert not [r for r in old if r() is not None]


def test_combining_uses_the_rows_up():
    net = build("vgg7")
    step = forward(net, *batch("vgg7", net))
    for block in Jacobian(net).blocks(losses_of(step), step, PLAIN):
        first, *rest = [[weakref.ref(g) for g in row] for row in block.rows]
        block.combine(torch.ones(len(block.owners)))
        assert block.rows == []
        assert all(r() is p.grad for r, p in zip(first, block.parameters, strict=True))  # summed in place
        assert not [r for row in rest for r in row if r() is not None]


class Packed:
    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("dfs", [False, True])
def test_the_graph_goes_with_the_stages(dfs, monkeypatch):
    """What the forward pass kept for the backward passes shrinks with each block, to nothing."""
    monkeypatch.setattr(engine, "choose_cuts", cut_everywhere)
    kept: weakref.WeakSet[Packed] = weakref.WeakSet()

    def pack(tensor):
        kept.add(packed := Packed(tensor))
        return packed

    net = build("vgg7")
    if dfs:
        partition(net, beta=0.5)
    images, targets = batch("vgg7", net)
    left = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
        step = forward(net, images, targets)
        losses = losses_of(step)
    before = len(kept)
    for block in Jacobian(net).blocks(losses, step, PLAIN):
        left.append(len(kept))
        del block
    assert len(left) == net.num_exits - 1
    assert before > left[0] > left[1] > left[2] > left[3] > left[4] == 0


def test_lean_keeps_the_rows_of_one_stage(monkeypatch):
    """The most numbers of rows alive at once, counted as each pass ends."""
    monkeypatch.setattr(engine, "choose_cuts", cut_everywhere)
    net = build("vgg7")
    largest = {}
    for shared, lean in ENGINES:
        alive: dict[int, int] = {}
        peak = 0
        step = forward(net, *batch("vgg7", net))
        jacobian = Jacobian(net, shared, lean=lean)
        with Counting(alive) as counting:
            for block in jacobian.blocks(losses_of(step), step, PLAIN):
                peak = max(peak, counting.peak)
                block.combine(torch.ones(len(block.owners)))
        largest[shared, lean] = peak
    shared_size = sum(p.numel() for p in net.stages[:-1].parameters())
    stage = max(
        (net.num_exits - k) * sum(p.numel() for p in net.stages[k].parameters())
        for k in range(net.num_exits - 1)
    )
    assert largest["per_stage", False] <= stage
    assert largest["union", True] <= stage
    assert largest["union", False] > max(stage, 2 * shared_size)


class Counting:
    """Counts the numbers that the rows of all losses hold, by watching what the engine keeps."""

    def __init__(self, alive):
        self.peak = 0

    def __enter__(self):
        from offramp.methods.combiners.jacobian.row_buffer import RowBuffer

        self.take, outer = RowBuffer.take, self

        def take(rows, one, grads):
            outer.take(rows, one, grads)
            held = sum(g.numel() for row in rows.rows for g in row.values())
            outer.peak = max(outer.peak, held)

        RowBuffer.take = take
        return self

    def __exit__(self, *_):
        from offramp.methods.combiners.jacobian.row_buffer import RowBuffer

        RowBuffer.take = self.take


@pytest.mark.parametrize("name", ["vgg7", "decoders"])
def test_equals_torchjd(name):
    net = build(name)
    images, targets = batch(name, net, 4)
    jacobian = Jacobian(net)
    owned = net.owners()
    shared = [p for n, p in net.named_parameters() if len(owned[n]) > 1]
    autojac.backward(losses_of(forward(net, images, targets, trunk=False)), inputs=shared)
    step = forward(net, images, targets)
    for block in jacobian.blocks(losses_of(step), step, PLAIN):
        theirs = torch.cat([p.jac.flatten(1) for p in block.parameters], dim=1)
        ours = block.matrix()
        for j, row in enumerate(theirs):  # theirs has rows of zeros, too
            assert (j in block.owners) == bool(row.any())
        theirs = theirs[list(block.owners)]
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1)
