"""Cut a backbone where its user says: into stages of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError, an_object, shown
from offramp.nets.attaching._checks import check_name
from offramp.nets.attaching._interface import call_with, logits_of
from offramp.nets.attaching._parts import Parts, feature_of
from offramp.nets.attaching._uses import Uses
from offramp.nets.values import check_values
from offramp.unchanged import unchanged

__all__ = ["Stage", "by_stages"]

_Run = str | nn.Module | Callable[[Any], Any]  # the name of a submodule, a module, a function
Stage = _Run | Sequence[_Run]  # what runs in it, in order


def by_stages(backbone: nn.Module, stages: Sequence[Stage], sample: Any) -> Parts:
    """The user's stages as modules.

    Args:
        backbone: What is cut.
        stages: What runs in each.
        sample: An input for the backbone.

    Raises:
        UserError: A stage is none, does not run on what the one before returns, or returns no feature.
    """
    built = _built(backbone, stages, isinstance(sample, Tensor))
    outputs, carry = [], []
    x = sample
    with unchanged(backbone, *built), torch.no_grad(), Uses(backbone) as uses:
        for k, stage in enumerate(built, start=1):
            x = _run(stage, k, x)
            uses.check(stage, k)
            if k < len(built):
                carry.append(isinstance(x, tuple))
                outputs.append(feature_of(f"stage {k}", x[-1] if carry[-1] and x else x))
    if not isinstance(x, Tensor):
        return Parts(built, outputs, carry, _Logits())
    last = built[-1]
    if type(last) is nn.Sequential and len(last) > 1 and isinstance(last[-1], nn.Linear):
        return Parts([*built[:-1], last[:-1]], outputs, carry, last[-1])
    return Parts(built, outputs, carry, nn.Identity())


def _run(stage: nn.Module, number: int, x: Any) -> Any:
    try:
        return stage.eval()(x)
    except Exception as error:  # whatever a user's code raises
        reason = str(error).strip().partition("\n")[0]
        given = "the input" if number == 1 else f"what stage {number - 1} returns"
        raise UserError(
            f"stage {number} cannot run on {given}: {reason}; "
            "stages= is all that the backbone's forward runs, in its order"
        ) from error


def _built(backbone: nn.Module, stages: Sequence[Stage], one_input: bool) -> list[nn.Module]:
    if isinstance(stages, str) or not isinstance(stages, Sequence) or len(stages) < 2:
        raise UserError(
            f"stages={shown(stages)} has no place for an exit; give two stages or more, each the name of a "
            "submodule, a module, a function, or a list of these, such as stages=[['stem', 'layer1'], 'rest']"
        )
    built = []
    for k, stage in enumerate(stages, start=1):
        runs = stage if isinstance(stage, (list, tuple)) else [stage]
        modules = [_module(backbone, k, run) for run in runs] or [nn.Identity()]
        if k == 1 and not one_input:
            modules[0] = _Spread(modules[0])
        built.append(modules[0] if len(modules) == 1 else nn.Sequential(*modules))
    return built


def _module(backbone: nn.Module, stage: int, run: Any) -> nn.Module:
    if isinstance(run, str):
        check_name(backbone, run)
        run = backbone.get_submodule(run)
    if isinstance(run, (nn.ModuleList, nn.ModuleDict)):
        raise UserError(
            f"stage {stage} has {an_object(run)}, which runs nothing itself; name the modules in it"
        )
    if isinstance(run, nn.Module):
        check_values(run)
        return run
    if not callable(run):
        raise UserError(
            f"stage {stage} has {shown(run)} in it; give names of submodules, modules, or functions"
        )
    return _Function(run)


class _Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


class _Spread(nn.Module):
    """Calls a module with several inputs, which come as a tuple or a dict."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Any) -> Any:
        return call_with(self.inner, inputs)


class _Logits(nn.Module):
    """Takes the logits out of what a backbone returns."""

    def forward(self, output: Any) -> Any:
        return logits_of(output)
