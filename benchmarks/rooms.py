"""Images per second that `rooms` renders: by one process, and by as many as opening the set starts.

Processor time is that of all of them; other work on the machine changes it less than the rate.

python benchmarks/rooms.py --out benchmarks/rooms.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

from _result import result_file, write_result

from offramp.data import open_data
from offramp.data.rooms import random_scene, render


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()

    text = f"rooms:images={args.images},height={args.height},width={args.width}"
    work: dict[str, Callable[[], object]] = {
        "one process": lambda: [
            render(random_scene(0, 0, number), args.height, args.width) for number in range(args.images)
        ],
        "opened": lambda: open_data(text, val_fraction=0),
    }
    rates: dict[str, list[float]] = {name: [] for name in work}
    processor: dict[str, list[float]] = {name: [] for name in work}
    for round in range(args.rounds + 1):
        for name, run in work.items():
            start, busy = time.perf_counter(), processor_time()
            run()
            if round:  # the first round warms up
                rates[name].append(args.images / (time.perf_counter() - start))
                processor[name].append(1e3 * (processor_time() - busy) / args.images)
    rows = [
        {
            "what": name,
            "images_per_s": statistics.median(rates[name]),
            "lowest": min(rates[name]),
            "highest": max(rates[name]),
            "processor_ms_per_image": statistics.median(processor[name]),
        }
        for name in work
    ]
    for row in rows:
        print(
            f"{row['what']:12} {row['images_per_s']:6.0f} images/s, "
            f"{row['processor_ms_per_image']:.1f} ms of processor time each"
        )
    write_result(args.out, args, rows=rows)


def processor_time() -> float:
    """Seconds of processor time of this process and of those that it has started and seen end."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
