"""How far each budget curve is ahead of joint training's: ``python results/long/ahead.py results/long``.

Reads the files that ``offramp budget --best`` printed, and takes straight lines between the points of the
best thresholds.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILES = ("budget.txt", "budget_rest.txt", "budget_rates.txt", "budget_kd.txt")
MILLIONS = (4, 6, 8, 10, 13, 16, 20, 24, 28)
HEADER = re.compile(r"(\S.*?) +FLOPs, all heads")
POINT = re.compile(r"p = \d+ .* ([\d.]+)M +([\d.]+) ± [\d.]+$")


def curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The points of each curve of a file: million operations, and top-1 in percent."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if header := HEADER.match(line):
            points = found.setdefault(header[1], [])
        elif point := POINT.match(line):
            points.append((float(point[1]), float(point[2])))
    return found


def top1(points: list[tuple[float, float]]) -> NDArray[np.float64]:
    """Top-1 at MILLIONS; NaN beyond the curve's ends."""
    flops, accuracies = np.array(sorted(points)).T
    found: NDArray[np.float64] = np.interp(MILLIONS, flops, accuracies, np.nan, np.nan)
    return found


def main(folder: Path) -> None:
    """Print a row for each curve."""
    joint = top1(curves(folder / FILES[0])["joint"])
    print(f"{'million FLOPs':56}" + "".join(f"{m:>7}" for m in MILLIONS))
    print(f"{'joint, top-1 in percent':56}" + "".join(f"{value:7.1f}" for value in joint))
    for name in FILES:
        for label, points in curves(folder / name).items():
            if label != "joint":
                row = f"{name}: {label}"
                print(f"{row:56}" + "".join(f"{value:+7.1f}" for value in top1(points) - joint))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
