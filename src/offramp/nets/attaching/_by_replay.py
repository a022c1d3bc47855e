"""Cut a backbone whose forward torch.fx cannot trace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError, an_object
from offramp.nets.attaching._calls import Recording, Template, record
from offramp.nets.attaching._interface import STAGES, logits_of
from offramp.nets.attaching._parts import Parts, feature_of, one_tensor
from offramp.nets.attaching._replay_stage import ReplayStage
from offramp.unchanged import unchanged

__all__ = ["by_replay"]


def by_replay(backbone: nn.Module, at: Sequence[str], sample: Any) -> Parts:
    """Stages that run the backbone's own forward, each with its part of the modules.

    Args:
        backbone: What is cut.
        at: The modules to cut after.
        sample: An input for it.

    Raises:
        UserError: A cut module does not run exactly once, in this order, and return one Tensor; or the
            forward does not run anew from a cut.
    """
    holders = _holders(backbone, at)
    with unchanged(backbone), torch.no_grad():
        final = record(backbone.eval(), holders, sample).final()
    if final in at or (final and any(name.startswith(final + ".") for name in at)):
        final = None
    if final:
        holders |= _holders(backbone, [final])
    with unchanged(backbone), torch.no_grad():
        recording = record(backbone.eval(), holders, sample)
        ends = _ends(at, recording)
        needed = [_needed(backbone, holders, recording, end, Template(sample)) for end in ends]
    calls = [call.emptied() for call in recording.calls]
    stages = [
        ReplayStage(
            backbone,
            holders,
            calls[:start],
            calls[start:end],
            inputs=Template(sample).emptied(),
            needed=[] if end is None else needed[k],
            stop=None if end is None else calls[end - 1].key,
            final=final if end is None else None,
        )
        for k, (start, end) in enumerate(zip([0, *ends], [*ends, None], strict=True))
    ]
    made = [one_tensor(recording.calls[end - 1].result.value) for end in ends]
    outputs = [feature_of(f"module '{name}'", output) for name, output in zip(at, made, strict=True)]
    return Parts(stages, outputs, [True] * len(at), backbone.get_submodule(final) if final else nn.Identity())


def _holders(backbone: nn.Module, names: Sequence[str]) -> set[str]:
    """The modules around ``names``, and the lists of modules in them, which are never called themselves."""
    holders = {""}
    for name in names:
        atoms = name.split(".")
        holders |= {".".join(atoms[:depth]) for depth in range(1, len(atoms))}
    for name, module in backbone.named_modules():
        if name.rpartition(".")[0] in holders and isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            holders.add(name)
    return holders


def _ends(names: Sequence[str], recording: Recording) -> list[int]:
    """Number of calls up to each cut."""
    ran = [call.key[0] for call in recording.calls]
    for name in names:
        if ran.count(name) != 1:
            times = f"runs {ran.count(name)} times" if name in ran else "never runs"
            raise UserError(
                f"module '{name}' {times} in the forward pass; cut after a module that runs exactly once"
            )
        result = recording.calls[ran.index(name)].result.value
        if not isinstance(one_tensor(result), Tensor):
            raise UserError(
                f"module '{name}' returns {an_object(result)}, not a float Tensor; cut after one that does"
            )
    ends = [ran.index(name) + 1 for name in names]
    if ends != sorted(ends):
        order = [name for _, name in sorted(zip(ends, names, strict=True))]
        late = next(b for a, b in pairwise(names) if ran.index(b) < ran.index(a))
        raise UserError(f"'{late}' is named too late; give the modules as they run: at={order}")
    return ends


def _needed(
    backbone: nn.Module, holders: set[str], recording: Recording, end: int, inputs: Template
) -> list[bool]:
    """Whether the logits change if a Tensor made before a cut is lost, for each but the cut's own."""
    before, own = recording.calls[:end], recording.calls[end:]
    rest = ReplayStage(backbone, holders, before, own, inputs=inputs, needed=[], stop=None, final=None)
    tensors = [tensor for call in before for tensor in call.result.tensors()]
    whole = logits_of(recording.output)

    def changes(lost: set[int]) -> bool:
        kept = [torch.full_like(t, torch.nan) if i in lost else t.clone() for i, t in enumerate(tensors)]
        try:
            return not torch.equal(rest((*inputs.tensors(), *kept)), whole)
        except Exception as error:  # whatever a forward raises when its modules are not of their class
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"{type(backbone).__name__} cannot be cut after '{before[-1].key[0]}': torch.fx cannot "
                f"trace it, and run anew from there it fails ({reason}); cut elsewhere, or {STAGES}"
            ) from error

    floats = {i for i, t in enumerate(tensors[:-1]) if t.is_floating_point()}
    if not changes(floats):
        return [i not in floats for i in range(len(tensors) - 1)]
    return [i not in floats or changes({i}) for i in range(len(tensors) - 1)]
