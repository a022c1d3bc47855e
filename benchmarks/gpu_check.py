"""One group of checks of a device against the CPU; ``benchmarks/gpu.py`` runs all of them.

python benchmarks/gpu_check.py fp32 --device cuda --out fp32.json
python benchmarks/gpu_check.py fp32 --device cpu --small
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this

import torch
from _gpu import CHECKS
from _gpu.finding import Where
from _result import result_file, write_result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="as little as shows that it runs")
    parser.add_argument("--cases", nargs="+", help="only these")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True

    cases: dict[str, dict[str, Any]] = {}
    write_result(args.out, args, cases=cases)  # also of a check that has no cases on this device
    for name, check in CHECKS[args.check](Where(args.device, args.small)).items():
        if args.cases and name not in args.cases:
            continue
        began = time.perf_counter()
        try:
            found = check()
            case: dict[str, Any] = {key: list(finding) for key, finding in found.items()}
            passed = all(finding.passed for finding in found.values())
        except Exception as error:  # whatever goes wrong in one case, the others go on
            case, passed = (
                {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()},
                False,
            )
        cases[name] = {"passed": passed, "seconds": time.perf_counter() - began, **case}
        numbers = "  ".join(
            f"{key} {v[0]:.2e} (at most {v[1]:.0e})" for key, v in case.items() if type(v) is list
        )
        print(
            f"{args.check:14} {name:28} {numbers or case['error']}{'' if passed else '   FAILED'}", flush=True
        )
        write_result(args.out, args, cases=cases)
    return 0 if all(case["passed"] for case in cases.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
