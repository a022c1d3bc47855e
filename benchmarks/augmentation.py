"""What batch augmentation costs beside a training step: VGG7 of width 64, batch 100, 3x32x32.

python benchmarks/augmentation.py --rounds 30 --out benchmarks/augmentation.json
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from _result import result_file, write_result

import offramp.nets
from offramp.data import ImageData, Split, Target, pipeline
from offramp.data._augment import cutout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (100, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(100, (100,), generator=generator)
    split = Split(images, {"label": labels})
    targets = {"label": Target("class", tuple(map(str, range(100))))}
    data = ImageData(
        name="noise", source="noise", targets=targets, train=split, val=split, load_test=lambda: split
    )
    crop_flip, _ = pipeline("dfs", data)
    everything, _ = pipeline("dfs-autoaugment", data)

    torch.manual_seed(0)
    net = offramp.nets.vgg7(num_classes=100, width=64).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    batch = crop_flip.images(images, generator).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        loss = torch.stack([F.cross_entropy(o, labels) for o in net(batch)]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    work = {
        "step": step,
        "crop + flip + cutout": lambda: crop_flip.images(cutout(images, generator), generator),
        "crop + flip + autoaugment + cutout": lambda: everything.images(images, generator),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round in range(args.rounds + 2):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if round >= 2:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, times in seconds.items():
        share = statistics.median(t / s for t, s in zip(times, seconds["step"], strict=True))
        rows.append({"what": name, "median_s": statistics.median(times), "share_of_step": share})
        print(f"{name:36} {statistics.median(times) * 1e3:8.2f} ms   {100 * share:6.2f} % of a step")
    write_result(args.out, args, rows=rows)


if __name__ == "__main__":
    main()
