"""Milliseconds of the K x K solvers on one Gramian, TorchJD's beside them where they run without extras.

Rows as exits have them: alike, with norms over a decade. Median of the rounds; solvers take turns.

    OMP_NUM_THREADS=1 python benchmarks/solvers.py --out benchmarks/solvers.json
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from _result import result_file, write_result
from torchjd.aggregation import IMTLGWeighting, MGDAWeighting, PCGradWeighting

from offramp.methods.combiners.cagrad import cagrad_weights
from offramp.methods.combiners.imtl import imtl_weights
from offramp.methods.combiners.mgda import mgda_weights
from offramp.methods.combiners.nash_mtl import nash_weights, nash_weights_cccp
from offramp.methods.combiners.upgrad import upgrad_weights

SOLVERS = {
    "mgda": mgda_weights,
    "mgda (TorchJD, inexact)": MGDAWeighting(),
    "cagrad": lambda gramian: cagrad_weights(gramian, 0.4),
    "nash-mtl newton": nash_weights,
    "nash-mtl cccp": nash_weights_cccp,
    "upgrad": upgrad_weights,
    "imtl": lambda gramian: imtl_weights(gramian, 10.0),
    "imtl (TorchJD, no guard)": IMTLGWeighting(),
    "pcgrad (TorchJD)": PCGradWeighting(),
}


def gramian(m: int, seed: int, conflict: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, 50, generator=draw, dtype=torch.float64) + 1 - conflict
    rows = rows * 10 ** torch.rand(m, 1, generator=draw, dtype=torch.float64)
    return rows @ rows.T


def measure(m: int, rounds: int, conflict: float) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in SOLVERS}
    for seed in range(rounds):
        G = gramian(m, seed, conflict)
        for name, solve in SOLVERS.items():
            began = time.perf_counter()
            solve(G)
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--rows", type=int, nargs="+", default=[3, 7])
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    found = {
        f"{m} rows, {kind}": measure(m, args.rounds, conflict)
        for m in args.rows
        for kind, conflict in (("alike", 0.0), ("unrelated", 1.0))
    }
    print(f"{'ms':26}" + "".join(f"{case:>22}" for case in found))
    for name in SOLVERS:
        print(f"{name:26}" + "".join(f"{times[name]:22.2f}" for times in found.values()))
    write_result(args.out, args, ms=found)


if __name__ == "__main__":
    main()
