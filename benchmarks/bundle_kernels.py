"""What the operators of an exported net take, in its one graph and in the static network.

Real test images, all of which go on to the last exit, so that both do the same convolutions. Times are of
ONNX Runtime's profile, added up by kind of operator, the mean of the runs; the rest are hundreds of small
operators. The last line is what taking one number of a feature map out of its batch takes, in
multiply-adds of a convolution: an export weighs one against the other.

    python benchmarks/bundle_kernels.py runs/vgg7 --out benchmarks/bundle_kernels_vgg7.json
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from _result import result_file, write_result

import offramp
from offramp.exits import PathCosts, Policy

KINDS = {
    "convolutions": ("Conv", "FusedConv"),
    "layout": ("ReorderInput", "ReorderOutput"),
    "rows": ("NonZero", "Gather"),
    "pools": ("MaxPool", "GlobalAveragePool", "AveragePool"),
}


def kernels(path: Path, levels: np.ndarray, threads: int, runs: int) -> tuple[dict[str, float], int]:
    """Microseconds by kind of operator, and how many numbers of feature maps are taken out of a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = threads, True
    options.profile_file_prefix = str(path.parent / "profile")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = next(each.shape for each in session.get_inputs() if each.name == "thresholds")
    feed = {"images": levels, "thresholds": np.full(shape, np.inf, np.float32)}
    for _ in range(runs):
        session.run(None, feed)
    taken = dict.fromkeys([*KINDS, "rest"], 0.0)
    moved = 0
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        operator = event["args"]["op_name"]
        if operator != "If":  # whose time is that of what runs within it
            kind = next((kind for kind, names in KINDS.items() if operator in names), "rest")
            taken[kind] += event["dur"] / runs
        if operator == "Gather":
            shape = next(iter(event["args"]["input_type_shape"][0].values()))
            moved += math.prod(shape) if len(shape) == 4 else 0
    return taken, moved // runs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run on images")
    parser.add_argument("--budget", default="50%")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    run = offramp.Run.open(args.run)
    policy = offramp.calibrate(run, budget=args.budget)
    everywhere = replace(policy, calibration={})  # with no word on who leaves, all are taken out at once
    levels = run.open_data().test.images[: args.batch_size].numpy()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, each in (("static", Policy.full(policy.num_exits)), ("one graph", everywhere)):
            bundle = offramp.export(run, each, Path(folder, name))
            found[name], moved = kernels(bundle / "model.onnx", levels, args.threads, args.runs)
            kinds = "  ".join(f"{kind} {us / 1e3:.2f}" for kind, us in found[name].items())
            print(f"{name}: {kinds} ms", flush=True)
    one, static = found["one graph"], found["static"]
    taking = sum(one[kind] - static[kind] for kind in ("layout", "rows")) / moved
    operation = static["convolutions"] / (PathCosts(run.net).static * args.batch_size)
    print(f"taking a number out: {taking / operation:.0f} multiply-adds")
    settings = vars(args) | {"run": Path(args.run).name, "onnxruntime": onnxruntime.__version__}
    write_result(args.out, settings, microseconds=found, operations_of_a_number=taking / operation)


if __name__ == "__main__":
    main()
