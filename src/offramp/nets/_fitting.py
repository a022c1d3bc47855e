"""Whether the parts of a multi-task net fit: each runs on what it reads, and each output suits its task."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError, an_object, shown
from offramp.forks.scales import scales_of
from offramp.nets.multi_task import MultiTaskNet
from offramp.tasks import Task
from offramp.unchanged import unchanged

__all__ = ["check_fit"]


def check_fit(net: MultiTaskNet) -> None:
    """Run each part of a net in both modes, on batches of two sizes; the net is left as it was.

    Raises:
        UserError: A part cannot run, writes into what others read, or gives what its task cannot read.
    """
    with unchanged(net), torch.no_grad():
        for training, samples in ((True, 2), (False, 3)):
            _check_run(net.train(training), samples)


def _check_run(net: MultiTaskNet, samples: int) -> None:
    x = net.sample(samples)
    left = zip(net.outputs.items(), net.decoders, strict=True)
    for k, stage in enumerate(net.stages, start=1):
        x = _run("the trunk" if len(net.stages) == 1 else f"stage {k} of the trunk", stage, x, shared=k > 1)
        for (name, task), decoder in islice(left, net.num_tasks):
            what = f"the decoder {shown(name)}"
            _check_output(what, _run(what, decoder, x, shared=True), task, samples)


def _run(what: str, module: nn.Module, x: Any, *, shared: bool) -> Any:
    """What a module gives.

    Raises:
        UserError: It cannot run, or writes into an input that is shared with others.
    """
    kept = [(tensor, tensor.clone()) for tensor in scales_of(x) if shared and isinstance(tensor, Tensor)]
    try:
        output = module(x)
    except Exception as error:  # whatever a user's forward raises
        mode = "training" if module.training else "evaluation"
        raise UserError(
            f"{what} ({type(module).__name__}) cannot run on {_form(x)} in {mode} mode: {_line(error)}; give "
            "one that reads this, or wrap it in a module that does"
        ) from error
    if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in kept):
        raise UserError(f"{what} writes over the feature that others read; build it with inplace=False")
    return output


def _check_output(what: str, output: Any, task: Task, samples: int) -> None:
    gives = f"{what} gives {_form(output)} for {samples} samples"
    if not isinstance(output, Tensor) or output.shape[:1] != (samples,) or not output.is_floating_point():
        raise UserError(f"{gives}; wrap it in a module that gives one Tensor of floats [N, ...]")
    kind = type(task).__name__
    try:
        values, _ = task.loss(output, task.example_target(output))
    except Exception as error:  # whatever a task raises
        raise UserError(f"{gives}, which {kind} cannot read: {_line(error)}") from error
    if values.shape != (samples,):
        raise UserError(
            f"{gives}, for which {kind} has losses of shape {[*values.shape]} and not one per sample; end it "
            "in the shape that the task reads"
        )


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return str([*value.shape])
    if isinstance(value, (tuple, list, dict)):
        return f"{an_object(value)} of {', '.join(map(_form, scales_of(value)))}"
    return an_object(value)


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
