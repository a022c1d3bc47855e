"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

import offramp


def machine() -> dict[str, object]:
    """Processor, features that matter to convolutions, cores, versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "processor": model,
        "features": [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "offramp": offramp.__version__,
    }


def _gpu() -> dict[str, object] | None:
    """Name, memory and libraries of the first GPU, or None."""
    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "GiB": round(found.total_memory / 2**30, 1),
        "multiprocessors": found.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
