"""Give any network that torch.fx can trace exits after the modules you name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from offramp.errors import UserError, guess
from offramp.modes import modes_kept
from offramp.nets.channel_axis import ChannelAxis, given_for, look
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.pooled_head import Last, pooled_head
from offramp.nets.split_graph import DryRun, split_graph
from offramp.nets.trace_backbone import Trace, is_layer, trace_backbone
from offramp.unchanged import unchanged

__all__ = ["attach"]


def attach(
    backbone: nn.Module,
    at: Sequence[str],
    num_classes: int | None = None,
    *,
    input_size: tuple[int, ...] = (3, 32, 32),
    channel_axis: ChannelAxis | None = None,
) -> MultiExitNet:
    """Split ``backbone`` after the modules named in ``at`` and put an exit after each.

    Head k reads the output of module ``at[k]``: the mean over all axes but the batch and the channels, and a
    Linear, whether the channels come first (``[N, C, H, W]``, ``[N, C, L]``) or last (``[N, T, C]``,
    ``[N, H, W, C]``), which the layers around the cut tell.
    The last exit is the backbone's own output, bit for bit. Where later stages read more than the cut
    module's output (a skip connection over the cut), the stage's feature is a tuple: what is carried, and
    last that output.

    The net is made of the backbone's own modules and parameters: training or moving one trains and moves
    the other (``copy.deepcopy(backbone)`` first, to keep them apart). A new head has the device and dtype
    of the feature it reads. Hooks on modules that hold a cut do not run in the net; all others do.

    Args:
        backbone: A classifier with one input ``[N, *input_size]`` and logits ``[N, classes]``.
        at: Module names as in ``backbone.named_modules()``, in the order in which they run.
        num_classes: The backbone's number of classes, which is the default; any other number is refused.
        input_size: Shape of one input, for the dry run that finds the sizes of the heads.
        channel_axis: Where the layers do not tell: the axis of the channels, one for all exits or a mapping
            from exit (from 1) to axis.

    Returns:
        A net with ``len(at) + 1`` exits, each module in the mode (train or eval) it was in.

    Raises:
        UserError: The backbone cannot be split there; the line names the module or node, and the remedy.
    """
    if not isinstance(input_size, (tuple, list)):
        raise UserError(f"input_size is the shape of one input, e.g. (3, 32, 32), got {input_size!r}")
    _check_names(backbone, at)
    _check_values(backbone)
    trace = trace_backbone(backbone, at)
    _check_order(trace, backbone)
    like = next(filter(Tensor.is_floating_point, backbone.parameters()), torch.empty(0))
    with unchanged(backbone):
        batch = torch.randn(2, *input_size, dtype=like.dtype, device=like.device)
        run = _dry_run(backbone, trace, batch)
    classes = run.env[trace.result].shape[1]
    if num_classes not in (None, classes):
        raise UserError(
            f"num_classes={num_classes}, but {type(backbone).__name__} has {classes} classes; "
            "leave num_classes out, or replace its last layer first"
        )
    outputs = [_feature(name, run.env[cut]) for name, cut in zip(trace.names, trace.cuts, strict=True)]
    final = _final_layer(trace)
    stages = split_graph(trace, run, final)
    heads: list[nn.Module] = []
    for exit, (output, seen) in enumerate(zip(outputs, look(stages, [], batch), strict=True), start=1):
        head = pooled_head(output, seen[-1].axis(exit, given_for(channel_axis, exit)), classes)
        heads.append(head if len(seen) == 1 else nn.Sequential(Last(), *([*head.children()] or [head])))
    heads.append(nn.Identity() if final is None else trace.parts[str(final.target)])
    net = MultiExitNet(stages, heads, input_size=tuple(input_size), channel_axis=channel_axis)
    with unchanged(backbone):
        _check_equal(net, backbone, batch)
    _copy_modes(net, backbone)
    return net


def _feature(name: str, output: object) -> Tensor:
    """What a cut module returned, if a head can read it."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"module '{name}' returns a {kind}, not a float Tensor; cut after one that does")
    if output.ndim < 2:
        raise UserError(
            f"module '{name}' returns shape {[*output.shape]}, which has no channels; "
            "cut after a module that returns [N, C], [N, C, H, W], [N, T, C] or the like"
        )
    return output


def _final_layer(trace: Trace) -> fx.Node | None:
    """The node of the layer that makes the output of a last stage which has more to do than that."""
    node, layer = trace.result, trace.last_module
    if layer is None or not is_layer(layer) or list(node.args) != node.all_input_nodes or node.kwargs:
        return None
    order = list(trace.graph.nodes)
    calls = [other for other in order if other.op == node.op and other.target == node.target]
    stage_is_empty = order.index(node.all_input_nodes[0]) <= order.index(trace.cuts[-1])
    return None if len(calls) > 1 or len(node.users) > 1 or stage_is_empty else node


def _check_names(backbone: nn.Module, at: Sequence[str]) -> None:
    if isinstance(at, str) or not isinstance(at, Sequence) or {*map(type, at)} != {str}:
        raise UserError(
            f"at={at!r} names no place for an exit; give a list of module names, such as at=['layer1']"
        )
    names = [name for name, _ in backbone.named_modules(remove_duplicate=False) if name]
    for name in at:
        if name not in names:
            raise UserError(
                f"{type(backbone).__name__} has no module '{name}'{guess(name, names)}; "
                f"it has: {', '.join(child for child, _ in backbone.named_children())}"
            )


def _check_values(backbone: nn.Module) -> None:
    for name, value in chain(backbone.named_parameters(), backbone.named_buffers()):
        if is_lazy(value):
            raise UserError(
                f"'{name}' of {type(backbone).__name__} has no shape yet; run a batch through it first"
            )
        if value.is_meta:
            raise UserError(
                f"'{name}' of {type(backbone).__name__} is on the meta device and has no values; "
                "make the backbone on a real device, or call its to_empty(device=...) and load its weights"
            )


def _check_order(trace: Trace, backbone: nn.Module) -> None:
    if not isinstance(trace.result, fx.Node):
        raise _not_logits(backbone, trace.result)
    order = {node: position for position, node in enumerate(trace.graph.nodes)}
    for (first, one), (second, other) in pairwise(zip(trace.names, trace.cuts, strict=True)):
        if one is other:
            raise UserError(f"'{first}' and '{second}' return the same Tensor; keep one of them in at")
        if order[other] < order[one]:
            place = dict(zip(trace.names, trace.cuts, strict=True))
            ran = sorted(place, key=lambda name: order[place[name]])
            raise UserError(f"'{second}' runs before '{first}'; give them as they run: at={ran}")
    for name, cut in zip(trace.names, trace.cuts, strict=True):
        if cut is trace.result:
            raise UserError(
                f"module '{name}' returns the output of {type(backbone).__name__}, which is the last exit "
                f"anyway; leave '{name}' out of at"
            )


def _not_logits(backbone: nn.Module, value: object) -> UserError:
    kind = f"{value.dtype} {[*value.shape]}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    return UserError(
        f"{type(backbone).__name__} returns {kind}, not logits [N, classes]; "
        "wrap it in a module that returns them"
    )


def _dry_run(backbone: nn.Module, trace: Trace, batch: Tensor) -> DryRun:
    """One batch through the backbone in train mode, where in-place layers (dropout) do write in place."""
    backbone.train()
    run = DryRun(trace)
    with torch.no_grad():
        try:
            backbone(batch)
        except Exception as error:  # whatever a user's forward raises
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"{type(backbone).__name__} cannot run on a {batch.dtype} batch {[*batch.shape]}: {reason}; "
                "pass the shape of its input as input_size=(channels, height, width)"
            ) from error
        logits = run.run(batch)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        raise _not_logits(backbone, logits)
    return run


def _check_equal(net: MultiExitNet, backbone: nn.Module, batch: Tensor) -> None:
    """Compare the last exit with the backbone: a graph does not see a forward count or draw numbers."""
    for mode in (True, False):
        logits = []
        for model in (backbone.train(mode), net.train(mode)):
            torch.manual_seed(0)
            with torch.no_grad():
                logits.append(model(batch))
        whole, split = logits[0], logits[1][-1]
        # Equal bit for bit, but for devices where one layer run twice differs in its last bits.
        slack = torch.finfo(whole.dtype).eps ** 0.5 * whole.nan_to_num().abs().max().item()
        if not torch.allclose(split, whole, rtol=0, atol=slack, equal_nan=True):
            raise UserError(
                f"{type(backbone).__name__} in {'train' if mode else 'eval'} mode gives other logits split "
                "than whole; move what its forward draws, counts or remembers into a module of its own"
            )


def _copy_modes(net: MultiExitNet, backbone: nn.Module) -> None:
    """The backbone's modules keep their modes; a stage's own modules take that of the one they stand for."""
    with modes_kept(backbone):
        net.train(backbone.training)
    for stage in net.stages:
        for name, module in stage.named_modules():
            original = backbone.get_submodule(name.removesuffix("is_training").rstrip("."))
            module.training = original.training
