"""``python -m tests.crash``: attack runs, and print what was tried and what survived."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from tests.crash.attacks import ATTACKS
from tests.crash.stage import Missed, Stage
from tests.crash.subjects import METHODS, subjects

MISSES = 20  # in a row; the machine is too busy to hit a moment then


def main() -> int:
    """Attack; the exit code is 1 if a run did not survive."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=8, help="of each signal for each method (default: 8)")
    parser.add_argument("--methods", default=",".join(METHODS), help="default: %(default)s")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    names, attacks = given.methods.split(","), given.attacks.split(",")
    if unknown := [*({*names} - {*METHODS}), *({*attacks} - {*ATTACKS})]:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    counts: dict[tuple[str, str], list[bool]] = {}
    for subject in subjects(names, folder / "images"):
        stage = Stage(subject, folder / subject.name, Random(f"{given.seed} {subject.name}"))
        for attack in attacks:
            tries = math.ceil(given.kills * ATTACKS[attack][1])
            counts[subject.name, attack] = found = [_survives(stage, attack) for _ in range(tries)]
            print(f"{subject.name}, {attack}: {sum(found)} of {tries}", file=sys.stderr, flush=True)
    print(_table(counts, attacks))
    survived = all(all(found) for found in counts.values())
    if survived:
        shutil.rmtree(folder)
    else:
        print(f"the runs are in {folder}")
    return 0 if survived else 1


def _survives(stage: Stage, attack: str) -> bool:
    """Whether a run of the stage survives an attack; one that comes too late is tried again."""
    for _ in range(MISSES):
        with contextlib.suppress(Missed):
            wrong = ATTACKS[attack][0](stage)
            if wrong:
                print(f"{stage.subject.name}, {attack}: {wrong}", file=sys.stderr, flush=True)
            return not wrong
    raise RuntimeError(
        f"{stage.subject.name}: {MISSES} times in a row the run ended before the {attack} came"
    )


def _table(counts: dict[tuple[str, str], list[bool]], attacks: list[str]) -> str:
    """Rows of methods, columns of attacks: survived of tried."""
    names = [*dict.fromkeys(name for name, _ in counts)]
    rows = [["survived of tried", *attacks, "all"]]
    for name in [*names, "all"]:
        cells = [
            [
                found
                for (subject, kind), tries in counts.items()
                if name in (subject, "all") and kind in kinds
                for found in tries
            ]
            for kinds in [*([attack] for attack in attacks), attacks]
        ]
        rows.append([name, *(f"{sum(cell)} of {len(cell)}" for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
