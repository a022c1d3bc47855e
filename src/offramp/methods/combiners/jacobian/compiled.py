"""Forward passes whose graph lasts for several backward passes, also where they are compiled.

A compiled backward pass may overwrite what its forward pass saved ("donated buffers"), and torch refuses a
second one through the same graph. What is compiled while ``torch._functorch.config.donated_buffer`` is off
keeps what it saved. Here it is off during a forward pass, and as it was before afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch._functorch.config
import torch.compiler.config
from torch import Tensor, nn

from offramp.methods.combiners.jacobian.exit_graph import region_behind
from offramp.modes import buffers_kept

__all__ = ["run_with_lasting_graph"]


def run_with_lasting_graph(
    forward: Callable[[], tuple[Sequence[Tensor], Any, Any]], net: nn.Module
) -> tuple[Sequence[Tensor], Any, Any]:
    """Run a forward pass so that several backward passes can go through its graph.

    Where it meets what was compiled for one backward pass, torch is made to forget all that it has compiled,
    and the forward pass runs again.

    Args:
        forward: Gives the outputs, the features and the trunk of a step.
        net: What it runs; its buffers move once.
    """
    if "torch._functorch.aot_autograd" not in sys.modules:  # torch loads it before it compiles anything
        return forward()
    with _compiling_to_last():
        passed = forward()
    programs = _programs_behind(passed[0])
    if any(program.bw_donated_idxs for program in programs):
        torch.compiler.reset()
        with _compiling_to_last(), buffers_kept(net):
            passed = forward()
        programs = _programs_behind(passed[0])
    for program in programs:
        # torch takes None, of a program that may overwrite nothing, for a list of what it may
        program.bw_donated_idxs = program.bw_donated_idxs or []
    return passed


@contextmanager
def _compiling_to_last() -> Iterator[None]:
    """Compile so that no backward pass overwrites what was saved.

    The backward pass is compiled together with the forward pass, since torch's caches do not tell the kinds
    apart but by a tag, and the settings are those of this thread, which on a GPU runs no backward pass.
    """
    tag = f"{torch.compiler.config.cache_key_tag} several backward passes"
    with (
        torch._functorch.config.patch(donated_buffer=False, force_non_lazy_backward_lowering=True),
        torch.compiler.config.patch(cache_key_tag=tag),  # type: ignore[attr-defined]
    ):
        yield


def _programs_behind(outputs: Sequence[Tensor]) -> list[Any]:
    """What torch notes about each compiled program that the outputs come from."""
    nodes = region_behind([t.grad_fn for t in outputs if t.grad_fn is not None], {}).nodes
    notes = (getattr(getattr(node, "_forward_cls", None), "metadata", None) for node in nodes)
    return [note for note in notes if hasattr(note, "bw_donated_idxs")]
