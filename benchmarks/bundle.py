"""Wall clock of an exported net: one graph that leaves early, beside static networks and other ways to leave.

Real test images in batches of several sizes; the variants take turns on every batch, in one process. All but
the torch router run in ONNX Runtime, with as many threads. Everything is a ratio to the static network, the
backbone without inner heads, exported in the same way; FLOPs are those of the samples as they leave.

    python benchmarks/bundle.py runs/vgg7 --out benchmarks/bundle_vgg7.json

- one graph: ``model.onnx``, in which samples that leave are taken out of the batch
- stages: a session for each exit, with the rows taken between them by numpy (``Model.anytime``)
- torch router: :class:`offramp.Router`, channels-last
- earlyon: the ONNX graph that ``earlyon`` exports, which computes every exit (pip install earlyon==0.3.0; it
  is taken if it is there)
- int8: the one graph in 8 bits, with thresholds fitted anew, beside the one graph in fp32
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import offramp_runtime
import onnxruntime
import torch
from _clock import Clock
from _result import result_file, write_result

import offramp
from offramp.exits import PathCosts, Policy, Router
from offramp.runs.sets import recorded_transform

Answer = tuple[np.ndarray, np.ndarray]  # predicted classes, and the exits taken
Predict = Callable[[np.ndarray], Answer]


def graph(path: Path, threads: int, thresholds: np.ndarray) -> Predict:
    """The one graph of a bundle, as any program runs it."""
    session = opened(path / "model.onnx", threads)

    def predict(levels: np.ndarray) -> Answer:
        probabilities, exits, _ = session.run(None, {"images": levels, "thresholds": thresholds})
        return probabilities.argmax(1), exits

    return predict


def stages(model: offramp_runtime.Model) -> Predict:
    """A session for each exit."""

    def predict(levels: np.ndarray) -> Answer:
        answer = model.anytime(levels, 3600.0)
        return answer.prediction, answer.exit

    return predict


def in_torch(run: offramp.Run, policy: Policy) -> Predict:
    """The router of the library, which reads normalised images."""
    router = Router(run.net.to(memory_format=torch.channels_last), policy)
    transform = recorded_transform(run.record)

    def predict(levels: np.ndarray) -> Answer:
        images = transform.images(torch.from_numpy(levels), torch.Generator())
        answer = router(images.contiguous(memory_format=torch.channels_last))
        return answer.prediction.numpy(), answer.exit.numpy()

    return predict


def of_earlyon(run: offramp.Run, policy: Policy, folder: Path, threads: int) -> Predict | None:
    """The graph that earlyon exports, all exits of it, and its rule on what they say; None: not installed."""
    try:
        from earlyon import EarlyExitConfig, EarlyExitWrapper, ExitPoint
        from earlyon.onnx import export_to_onnx
    except ModuleNotFoundError:
        return None
    net, evaluated = run.net.eval(), policy.evaluated
    ends = [0, *evaluated]
    parts = [torch.nn.Sequential(*net.stages[a:b]) for a, b in itertools.pairwise(ends)]
    names = [f"exit{exit}" for exit in evaluated[:-1]]
    thresholds = [policy.thresholds[exit - 1] for exit in evaluated[:-1]]
    config = EarlyExitConfig(
        backbone="custom",
        num_classes=2,  # of no use to inference
        exit_points=[ExitPoint(name, str(place), 1) for place, name in enumerate(names)],
        confidence_thresholds=[min(each, 1.0) for each in thresholds],
    )
    heads = {name: net.heads[exit - 1] for name, exit in zip(names, evaluated, strict=False)}
    size = (1, *net.input_size)
    wrapper = EarlyExitWrapper(torch.nn.Sequential(*parts), heads, net.heads[-1], config, input_shape=size)
    export_to_onnx(wrapper, folder / "earlyon.onnx", input_shape=size)
    session, transform = opened(folder / "earlyon.onnx", threads), recorded_transform(run.record)

    def predict(levels: np.ndarray) -> Answer:
        images = transform.images(torch.from_numpy(levels), torch.Generator()).numpy()
        logits = session.run(None, {"input": images})
        prediction, exits = logits[-1].argmax(1), np.full(len(levels), evaluated[-1])
        for exit, threshold, each in reversed([*zip(evaluated, thresholds, logits, strict=False)]):
            shifted = np.exp(each - each.max(1, keepdims=True))
            gone = (shifted / shifted.sum(1, keepdims=True)).max(1) >= threshold
            prediction, exits = np.where(gone, each.argmax(1), prediction), np.where(gone, exit, exits)
        return prediction, exits

    return predict


def opened(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # as offramp_runtime has it: threads that wait for the next run in a loop are in the way of the others'
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def seconds(
    variants: dict[str, Predict], batches: Sequence[np.ndarray], rounds: int
) -> dict[str, list[float]]:
    """Of each round the seconds of all batches, by variant.

    Variants take turns on every batch, since the machine is not as quick at all times. Each runs once untimed
    before it is timed: what ran before decides what is in the processor's caches.
    """
    clock = Clock("cpu")
    taken: dict[str, list[float]] = {name: [0.0] * rounds for name in variants}
    turns = deque(variants)
    for number in range(rounds):
        for batch in batches:
            for name in turns:
                predict = variants[name]
                predict(batch)
                taken[name][number] += clock.seconds(lambda predict=predict, batch=batch: predict(batch))
        turns.rotate(-1)
    return taken


def table(run: offramp.Run, folder: Path, args: argparse.Namespace) -> None:
    policy = offramp.calibrate(run, budget=args.budget)
    full = Policy.full(policy.num_exits)
    static = offramp.export(run, full, folder / "static")
    bundle = offramp.export(run, policy, folder / "bundle")
    small = offramp.export(run, policy, folder / "int8", precision="int8")
    model, whole = offramp_runtime.load(bundle, threads=args.threads), PathCosts(run.net).static
    test = run.open_data().test
    levels = test.images[: args.images].numpy()
    labels = test.targets["label"][: args.images].numpy()
    in_8_bits = offramp_runtime.load(small).thresholds
    fitted: dict[str, Predict | None] = {
        "one graph": graph(bundle, args.threads, model.thresholds),
        "stages": stages(model),
        "torch router": in_torch(run, policy),
        "earlyon": of_earlyon(run, policy, folder, args.threads),
        "int8": graph(small, args.threads, in_8_bits),
    }
    nobody = np.full_like(model.thresholds, np.inf)
    cases = {
        f"budget {args.budget}": {name: each for name, each in fitted.items() if each is not None},
        "nobody leaves": {
            "one graph": graph(bundle, args.threads, nobody),
            "int8": graph(small, args.threads, np.full_like(in_8_bits, np.inf)),
        },
    }
    costs = {each.exit: each.cost for each in model.exits}
    costs |= {each.exit: each.cost for each in offramp_runtime.load(small).exits}
    rows: list[dict[str, Any]] = []
    for case, variants in cases.items():
        variants = {"static": graph(static, args.threads, np.zeros(0, np.float32)), **variants}
        for size in args.batch_sizes:
            chosen = levels[: max(1, len(levels) // 8)] if size == 1 else levels
            batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
            taken = seconds(variants, batches, args.rounds)
            row: dict[str, Any] = {"case": case, "batch_size": size, "variants": {}}
            row["static_ms"] = 1e3 * statistics.median(taken["static"]) / len(batches)
            for name, predict in variants.items():
                answers = [predict(batch) for batch in batches]
                prediction, exits = (np.concatenate(each) for each in zip(*answers, strict=True))
                ratios = [a / b for a, b in zip(taken["static"], taken[name], strict=True)]
                flops = whole / np.mean(
                    [whole if name == "static" else costs[exit] for exit in exits.tolist()]
                )
                row["variants"][name] = {
                    "speedup": statistics.median(ratios),
                    "quartiles": statistics.quantiles(ratios, n=4)[::2],
                    "flops_ratio": float(flops),
                    "of_flops_ratio": statistics.median(ratios) / float(flops),
                    "top1": 100 * float((prediction == labels[: len(prediction)]).mean()),
                }
            rows.append(row)
            words = "  ".join(
                f"{name} {each['speedup']:.2f} of {each['flops_ratio']:.2f} ({each['top1']:.1f} %)"
                for name, each in row["variants"].items()
            )
            print(f"{case}, batch {size}: {words}", flush=True)
            settings = vars(args) | {"run": Path(args.run).name, "onnxruntime": onnxruntime.__version__}
            write_result(args.out, settings, exits=policy.evaluated, rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run on images")
    parser.add_argument("--budget", default="50%")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--images", type=int, default=1024, help="test images; an eighth at batch size 1")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = offramp.Run.open(args.run)
    with tempfile.TemporaryDirectory() as folder:
        table(run, Path(folder), args)


if __name__ == "__main__":
    main()
