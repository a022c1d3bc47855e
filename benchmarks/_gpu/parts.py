"""The parts of ``benchmarks/gpu.py``: each a command of its own that takes ``--device`` and ``--out``."""

from __future__ import annotations

import shlex
from typing import NamedTuple

__all__ = ["Part", "parts"]


class Part(NamedTuple):
    """One command.

    Attributes:
        name: What it is called, and its result file.
        words: A script of this folder and its arguments.
        seconds: How long it may take.
        check: Whether it checks; checks run side by side, measurements alone.
    """

    name: str
    words: tuple[str, ...]
    seconds: float
    check: bool = False


# The slowest first. Some compile.
_CHECKS = {
    "compile": 240, "leaving_compiled": 240, "fp32": 120, "bf16": 120, "fp16": 120, "channels_last": 120,
    "several": 120, "several_bf16": 120, "nets": 120, "resume": 120, "leaving": 120, "attached": 120,
    "tools": 120, "forks": 60, "out_of_memory": 60, "data": 60, "memory": 60,
}  # fmt: skip

_MEASUREMENTS = {  # the most wanted first
    "inference_resnet50": (
        90,
        "inference_untrained.py",
        "inference_untrained.py --net vgg7:width=4 --dtypes float32 --batch-sizes 1 4 --images 16 --rounds 1",
    ),
    "multi_task": (
        90,
        "multi_task.py --width 64 --size 288 384 --batch 8 --rounds 5",
        "multi_task.py --only times --width 2 --size 32 32 --batch 1 --rounds 1 --variants joint loop rows",
    ),
    "inference_resnet50_compiled": (
        150,
        "inference_untrained.py --dtypes bfloat16 --compile --batch-sizes 1 64 --images 64",
        None,
    ),
    "step": (
        90,
        "dfs_step.py --batch 1024 --dtypes float32 tf32 bfloat16 --rounds 30",
        "dfs_step.py --batch 8 --width 4 --rounds 1 --warmup 1",
    ),
    "jacobian": (
        60,
        "jacobian.py --only times memory --batch 256 --dtype tf32 --rounds 10 --variants joint loop rows "
        "'lean, union' TorchJD 'union, every 8'",
        "jacobian.py --only times memory --nets vgg7 --batch 4 --width 4 --rounds 1 --repeats 1 --variants "
        "joint loop rows",
    ),
    "step_compiled": (
        150,
        "dfs_step.py --compile --batch 1024 --dtypes bfloat16 --layouts channels_last "
        "--variants joint fused cat",
        None,
    ),
    "dr_mgf": (
        60,
        "dr_mgf.py --only steps memory --batch 512 --precision bf16",
        "dr_mgf.py --only steps memory --batch 4 --width 4 --rounds 1",
    ),
    "step_resnet18": (
        90,
        "dfs_step.py --nets resnet18 --batch 512 --dtypes tf32 bfloat16 --rounds 10",
        None,
    ),
    "step_msdnet": (
        60,
        "dfs_step.py --nets msdnet_cifar --batch 1024 --dtypes tf32 bfloat16 --layouts channels_last",
        None,
    ),
    "jacobian_bf16": (
        60,
        "jacobian.py --only times --batch 256 --dtype bfloat16 --rounds 10 --variants joint loop rows "
        "'lean, union' 'union, every 8'",
        None,
    ),
}


def parts(*, small: bool) -> list[Part]:
    """All parts in their order; small, as little of each as shows that it runs."""
    patience = 3 if small else 1  # on a CPU, where fp16 may be slow and cores may be shared
    checks = [
        Part(name, ("gpu_check.py", name, *(["--small"] if small else [])), patience * seconds, check=True)
        for name, seconds in _CHECKS.items()
    ]
    found = []
    for name, (seconds, full, little) in _MEASUREMENTS.items():
        command = little if small else full
        if command is not None:
            found.append(Part(name, tuple(shlex.split(command)), patience * seconds))
    return checks + found
