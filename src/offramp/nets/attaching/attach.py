"""Give any network exits, after modules that are named or where the user's own stages end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from offramp.checks import count_of, flag, of_kind
from offramp.errors import UserError
from offramp.nets.attaching._auto import auto_places
from offramp.nets.attaching._batch_axis import check_apart, check_batch_first
from offramp.nets.attaching._by_graph import by_graph
from offramp.nets.attaching._by_replay import by_replay
from offramp.nets.attaching._by_stages import Stage, by_stages
from offramp.nets.attaching._checks import check_names, run_whole
from offramp.nets.attaching._difference import difference
from offramp.nets.attaching._heads import make_heads
from offramp.nets.attaching._modes import copy_modes, freeze
from offramp.nets.attaching._parts import Parts
from offramp.nets.attaching._tokens import tokens_of
from offramp.nets.channel_axis import ChannelAxis
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.net import check_form
from offramp.nets.other_names import names_in
from offramp.nets.sample import Example, checked_size, make_sample
from offramp.nets.values import check_values
from offramp.tasks import Task
from offramp.unchanged import unchanged

__all__ = ["attach"]


@torch.inference_mode(False)  # gradients are looked at, and heads made to be trained
def attach(
    backbone: nn.Module,
    at: Sequence[str] | str | None = None,
    num_classes: int | None = None,
    *,
    stages: Sequence[Stage] | None = None,
    input_size: tuple[int, ...] = (3, 32, 32),
    example: Example | None = None,
    channel_axis: ChannelAxis | None = None,
    head: str | Sequence[str] = "linear",
    pool: str | Sequence[str] | None = None,
    heads: Sequence[nn.Module] | None = None,
    freeze_backbone: bool = False,
    task: Task | None = None,
) -> MultiExitNet:
    """Split ``backbone`` after the modules named in ``at``, or at equal shares of its FLOPs, and add exits.

    Head k reads the output of module ``at[k]``: by default the mean over all axes but the batch and the
    channels, and a Linear, whether the channels come first (``[N, C, H, W]``, ``[N, C, L]``) or last
    (``[N, T, C]``, ``[N, H, W, C]``), which the layers around the cut tell. Padding of token ids is left out
    of the mean; of a causal net (GPT-like) the head reads the last real token in place of the mean. What is
    padding is told by ``attention_mask`` among the named inputs (0 at padding), or else by
    ``config.pad_token_id`` or the embedding's ``padding_idx``.
    The last exit is the backbone's own output, bit for bit, with its gradients: what the backbone runs under
    no_grad or outside of autocast runs so in the net. Each feature has the batch in its first axis. Where
    later stages read more than the cut module's output (a skip connection over the cut), the stage's feature
    is a tuple: what is carried, and last that output.

    Where a backbone cannot be split at a name, give its ``stages`` instead: all that its forward runs, in
    order, with an exit after each stage but the last, whose output is the backbone's. Each is the name of a
    submodule, a module, a function of one argument, or a list of these::

        class Tail(nn.Module):  # what a stage uses it holds, so that it is trained, copied and saved
            def __init__(self, net):
                super().__init__()
                self.norm, self.fc = net.norm, net.fc

            def forward(self, x):
                return self.fc(self.norm(x)[:, 0])

        attach(net, stages=[["stem", "blocks.0"], ["blocks.1", torch.relu], Tail(net)])

    A stage that must hand on more than its own output returns a tuple of Tensors; the head reads the last.

    The net is made of the backbone's own modules and parameters: training or moving one trains and moves
    the other (a ``copy.deepcopy`` of the net is apart from both). A new head has the device and dtype
    of the feature it reads. Hooks on modules that hold a cut do not run in the net; all others do.

    Args:
        backbone: A classifier with one input ``[N, *input_size]`` and logits ``[N, classes]``.
        at: Module names as in ``backbone.named_modules()``, in the order in which they run, of modules that
            return one Tensor, also in a tuple, list or dict that holds no other. Or ``"auto:K"`` for K exits
            at equal shares of the FLOPs, of which the last is the backbone's own: K-1 exits, each behind a
            module whose output is all that the rest reads, as near as there are such to 1/K, 2/K, ... of the
            backbone's multiply-accumulates. A line says where, and so does ``exits_after``.
        num_classes: The backbone's number of classes, which is the default; any other number is refused.
        stages: The stages, in place of ``at``: two or more.
        input_size: Shape of one input, for the dry run that finds the sizes of the heads.
        example: An input where floats of that shape are none, with a batch axis: token ids, several inputs as
            a tuple, or named ones as a dict. The net takes its input in that form, as one argument.
        channel_axis: Where the layers do not tell: the axis of the channels, one for all exits or a mapping
            from exit (from 1) to axis.
        head: The kind of head, one for all exits but the last or a list with one for each: ``"linear"``;
            ``"mlp"``, with a hidden layer as wide as the feature; ``"norm"``, LayerNorm and a Linear; or
            ``"sepconv"``, two depthwise-separable convolutions before the pooling (Zhang, Bao, Ma,
            *Self-Distillation*, TPAMI 2022), for grids such as ``[N, C, H, W]`` or ``[N, H, W, C]``.
        pool: What heads read of tokens ``[N, T, C]``, likewise: their ``"mean"`` or the ``"last"`` one, of
            the real ones where padding is known, or the ``"class"`` token, the first. None: as said above.
        heads: Your own heads, one for each exit but the last, each from the feature to logits.
        freeze_backbone: Train the new heads alone: the backbone's parameters, those of its own head too, need
            no gradients, and it stays in evaluation mode, so that the statistics of its norm layers do not
            move and the last exit stays what it is. ``backbone.requires_grad_()`` ends it.
        task: What every exit predicts; by default the classes of ``label``.

    Returns:
        A net with ``len(at) + 1`` exits, or one for each of ``stages``; each module in the mode (train or
        eval) it was in. Its ``exits_after`` names the modules that were cut after.

    Raises:
        UserError: The backbone cannot be split there; the line names the module or node, and the remedy. Or
            the stages are not what its forward runs; the line names the first stage that differs. Or a head
            does not fit the feature of its exit, or it is not certain what is padding.
    """
    of_kind("backbone", backbone, nn.Module, "a network, e.g. torchvision.models.resnet18()")
    input_size = checked_size(input_size)
    check_form(example, channel_axis)
    flag("freeze_backbone", freeze_backbone)
    if heads is not None:
        lists = (list, tuple, nn.ModuleList, nn.Sequential)
        of_kind("heads", heads, lists, "a list of modules, one for each exit but the last")
    if num_classes is not None:
        count_of("num_classes", num_classes)
    if stages is None and not isinstance(at, str):
        check_names(backbone, at)
    elif stages is not None and at is not None:
        raise UserError("at= and stages= both say where the exits are; give one of them")
    check_values(backbone)
    example = dict(example) if isinstance(example, Mapping) else example  # as a tokenizer returns it
    samples = [make_sample(backbone, n, input_size, example) for n in (2, 3)]
    with unchanged(backbone):
        classes = run_whole(backbone, samples[0], example is None).shape[1]
    if num_classes not in (None, classes):
        raise UserError(
            f"num_classes={num_classes}, but {type(backbone).__name__} has {classes} classes; "
            "leave num_classes out, or replace its last layer first"
        )
    if isinstance(at, str):
        at = auto_places(backbone, at, samples[0])
    tokens = tokens_of(backbone, samples[0])
    parts = _cut(backbone, at, stages, samples, carries=tokens is not None and tokens.padding is not None)
    check_batch_first(parts, samples, own=stages is not None)
    ends = [*make_heads(parts, samples[0], classes, channel_axis, heads, tokens, head, pool), parts.end]
    check_apart(parts.stages, ends, samples[0])
    net = MultiExitNet(
        parts.stages,
        ends,
        input_size=input_size,
        example=example,
        channel_axis=channel_axis,
        task=task,
    )
    net.exits_after = tuple(at or ())
    net.other_names = names_in(net, backbone)
    copy_modes(net, backbone)
    if freeze_backbone:
        freeze(net, backbone)
    return net


def _cut(
    backbone: nn.Module,
    at: Sequence[str] | None,
    stages: Sequence[Stage] | None,
    samples: Sequence[Any],
    *,
    carries: bool,
) -> Parts:
    """The backbone in parts that give what it gives: those of the first way that does.

    With `carries`, features carry the input along, which tells the heads what is padding.
    """
    ways: list[Callable[[], Parts | None]]
    if stages is not None:
        ways = [partial(by_stages, backbone, stages, samples[0])]
    else:
        assert at is not None  # its names have been checked
        cuts = (by_replay,) if carries else (by_graph, by_replay)
        ways = [partial(cut, backbone, at, samples[0]) for cut in cuts]
    reason = ""
    for cut in ways:
        parts = cut()
        if parts is not None:
            reason = difference(parts, backbone, samples, own=stages is not None) or ""
            if not reason:
                return parts
    raise UserError(reason)
