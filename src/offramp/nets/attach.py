"""Give any network that torch.fx can trace exits after the modules you name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from offramp.errors import UserError, guess
from offramp.modes import modes_kept
from offramp.nets.channel_axis import ChannelAxis, given_for, look
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.outputs import check_logits, logits_of
from offramp.nets.pooled_head import Last, pooled_head
from offramp.nets.replay import call_with, replay_stages
from offramp.nets.sample import Example, make_sample
from offramp.nets.split_graph import DryRun, split_graph
from offramp.nets.trace_backbone import Trace, Untraceable, is_layer, trace_backbone
from offramp.unchanged import unchanged

__all__ = ["attach"]


def attach(
    backbone: nn.Module,
    at: Sequence[str],
    num_classes: int | None = None,
    *,
    input_size: tuple[int, ...] = (3, 32, 32),
    example: Example | None = None,
    channel_axis: ChannelAxis | None = None,
    heads: Sequence[nn.Module] | None = None,
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
        example: An input where floats of that shape are none, with a batch axis: token ids, several inputs as
            a tuple, or named ones as a dict. The net takes its input in that form, as one argument.
        channel_axis: Where the layers do not tell: the axis of the channels, one for all exits or a mapping
            from exit (from 1) to axis.
        heads: Your own heads, one for each module of ``at``, each from its output to logits.

    Returns:
        A net with ``len(at) + 1`` exits, each module in the mode (train or eval) it was in.

    Raises:
        UserError: The backbone cannot be split there; the line names the module or node, and the remedy.
    """
    if not isinstance(input_size, (tuple, list)):
        raise UserError(f"input_size is the shape of one input, e.g. (3, 32, 32), got {input_size!r}")
    _check_names(backbone, at)
    _check_values(backbone)
    samples = [make_sample(backbone, n, tuple(input_size), example) for n in (2, 3)]
    with unchanged(backbone):
        classes = _run_whole(backbone, samples[0], example is None).shape[1]
    if num_classes not in (None, classes):
        raise UserError(
            f"num_classes={num_classes}, but {type(backbone).__name__} has {classes} classes; "
            "leave num_classes out, or replace its last layer first"
        )
    if heads is not None and len(heads) != len(at):
        raise UserError(f"heads= has {len(heads)} heads for {len(at)} places in at; give one for each")
    difference: str | None = ""
    for split in (_by_graph, _by_replay):
        parts = split(backbone, at, samples[0])
        if parts is None:
            continue
        own = heads or _pooled_heads(parts, samples[0], classes, channel_axis)
        net = MultiExitNet(
            parts.stages,
            [*(_of_last(head, stage) for head, stage in zip(own, parts.carry, strict=True)), parts.end],
            input_size=tuple(input_size),
            example=example,
            channel_axis=channel_axis,
        )
        with unchanged(backbone):
            difference = _difference(net, backbone, samples)
        if difference is None:
            _copy_modes(net, backbone)
            return net
    raise UserError(difference)


@dataclass(frozen=True)
class _Parts:
    """A backbone cut into stages.

    Args:
        stages: These.
        outputs: What each cut module returned.
        carry: For each cut, whether the feature is a tuple that carries other Tensors too.
        end: The last head.
    """

    stages: Sequence[nn.Module]
    outputs: Sequence[Tensor]
    carry: Sequence[bool]
    end: nn.Module


def _by_graph(backbone: nn.Module, at: Sequence[str], sample: Any) -> _Parts | None:
    """Stages that are graphs; None if torch.fx cannot make them."""
    if not isinstance(sample, Tensor):
        return None
    try:
        trace = trace_backbone(backbone, at)
        if not isinstance(trace.result, fx.Node):
            return None
        _check_order(trace, backbone)
        with unchanged(backbone), torch.no_grad():
            backbone.train()  # where in-place layers (dropout) do write in place
            run = DryRun(trace)
            run.run(sample)
        outputs = [_feature(name, run.env[cut]) for name, cut in zip(trace.names, trace.cuts, strict=True)]
        final = _final_layer(trace)
        stages = split_graph(trace, run, final)
    except Untraceable:
        return None
    carry = [isinstance(stage.graph.output_node().args[0], tuple) for stage in stages[:-1]]
    return _Parts(stages, outputs, carry, nn.Identity() if final is None else trace.parts[str(final.target)])


def _by_replay(backbone: nn.Module, at: Sequence[str], sample: Any) -> _Parts:
    """Stages that run the backbone's own forward, each with its part of the modules."""
    stages, outputs, final = replay_stages(backbone, at, sample)
    outputs = [_feature(name, output) for name, output in zip(at, outputs, strict=True)]
    return _Parts(stages, outputs, [True] * len(at), nn.Identity() if final is None else final)


def _pooled_heads(
    parts: _Parts, sample: Any, classes: int, channel_axis: ChannelAxis | None
) -> list[nn.Module]:
    return [
        pooled_head(output, seen[-1].axis(exit, given_for(channel_axis, exit)), classes)
        for exit, (output, seen) in enumerate(
            zip(parts.outputs, look(parts.stages, [], sample), strict=True), start=1
        )
    ]


def _of_last(head: nn.Module, carry: bool) -> nn.Module:
    """A head that reads the last Tensor of a feature that carries others along."""
    if not carry:
        return head
    return nn.Sequential(Last(), *(head if isinstance(head, nn.Sequential) else [head]))


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


def _run_whole(backbone: nn.Module, sample: Any, random: bool) -> Tensor:
    """The logits of the backbone in eval mode; it runs in train mode too."""
    with torch.no_grad():
        for mode in (True, False):
            try:
                output = call_with(backbone.train(mode), sample)
            except Exception as error:  # whatever a user's forward raises
                raise UserError(_cannot_run(backbone, sample, random, error)) from error
            logits = check_logits(backbone, output)
    return logits


def _cannot_run(backbone: nn.Module, sample: Any, random: bool, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    name = type(backbone).__name__
    if not random:
        return f"{name} cannot run on the example: {reason}; pass one that it runs on as `example=`"
    what = f"a {sample.dtype} batch {[*sample.shape]}"
    if any(isinstance(module, nn.Embedding) for module in backbone.modules()):
        remedy = "pass token ids [N, T], or all that it reads, as `example=`"
    elif "required positional argument" in reason:
        remedy = "pass all of its inputs, each with a batch axis, as `example=(x, ...)`"
    elif any(isinstance(module, (nn.Conv2d, nn.Conv3d)) for module in backbone.modules()):
        remedy = "pass the shape of its input as input_size=(channels, height, width)"
    else:
        remedy = "pass the shape of one input as `input_size=`, or an input as `example=`"
    return f"{name} cannot run on {what}: {reason}; {remedy}"


def _difference(net: MultiExitNet, backbone: nn.Module, samples: Sequence[Any]) -> str | None:
    """How the last exit differs from the backbone, if it does, at two batch sizes and in both modes."""
    for mode in (True, False):
        for sample in samples:
            outputs = []
            for run in (
                lambda: logits_of(call_with(backbone.train(mode), sample)),  # noqa: B023
                lambda: net.train(mode)(sample)[-1],  # noqa: B023
            ):
                torch.manual_seed(0)
                with torch.no_grad():
                    outputs.append(run())
            whole, split = outputs
            # Equal bit for bit, but for devices where one layer run twice differs in its last bits.
            slack = torch.finfo(whole.dtype).eps ** 0.5 * whole.nan_to_num().abs().max().item()
            if not torch.allclose(split, whole, rtol=0, atol=slack, equal_nan=True):
                return (
                    f"{type(backbone).__name__} in {'train' if mode else 'eval'} mode gives other logits "
                    "split than whole; move what its forward draws, counts or remembers into a module "
                    "of its own"
                )
    return None


def _copy_modes(net: MultiExitNet, backbone: nn.Module) -> None:
    """The backbone's modules keep their modes; a stage's own modules take that of the one they stand for."""
    with modes_kept(backbone):
        net.train(backbone.training)
    parts = set(backbone.modules())
    for stage in net.stages:
        for name, module in stage.named_modules():
            if module not in parts:
                original = backbone
                for atom in name.removeprefix("backbone").removesuffix("is_training").strip(".").split("."):
                    original = original._modules.get(atom) or original
                module.training = original.training
