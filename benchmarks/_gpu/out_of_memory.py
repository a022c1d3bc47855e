"""A batch that the device's memory does not hold: the line that says so, and cutting it until it fits."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping

import torch
from _clock import Clock

from _gpu.finding import Cases, Finding, Where, distance, flat
from _gpu.small import RECIPE, noise, small_net
from offramp import Run, UserError, fit

__all__ = ["out_of_memory"]

BATCH, STEPS = 1024, 2
ROOM = 2 * 2**30  # bytes for this process, of which a step of the whole batch takes twice as many
AGAIN = 1e-6


def out_of_memory(where: Where) -> Cases:
    """One line, and ``accumulate="auto"``; a GPU's allocator alone can be given a limit."""
    if not Clock(where.device).cuda:
        return {}
    return {
        "one line": functools.partial(_one_line, where.device),
        "auto": functools.partial(_auto, where.device),
    }


@contextlib.contextmanager
def _little_room() -> Iterator[None]:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(ROOM / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _trained(accumulate: int | str, device: str) -> Run:
    recipe = RECIPE.replace(batch_size=BATCH, accumulate=accumulate)
    return fit(small_net(64), noise(count=BATCH * STEPS), "joint", recipe, quiet=True, device=device)


def _one_line(device: str) -> Mapping[str, Finding]:
    try:
        with _little_room():
            _trained(1, device)
    except UserError as error:
        text = str(error)
        return {
            "line breaks": Finding(text.count("\n"), 0),
            "batch_size not named": Finding("batch_size" not in text, 0),
        }
    raise AssertionError("the batch was to be too large for the memory and was not")


def _auto(device: str) -> Mapping[str, Finding]:
    """What it gives is what that many micro-batches give from the first step on."""
    with _little_room():
        found = _trained("auto", device)
    count = found.result.micro_batches or 1
    wanted = _trained(count, device)
    apart = distance(flat(found.net.state_dict()), flat(wanted.net.state_dict()))
    return {"distance": Finding(apart, AGAIN), "not cut": Finding(count == 1, 0)}
