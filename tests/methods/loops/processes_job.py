"""What each of several processes does in test_processes.py: two epochs of a loop of stages."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from context_cases import bench, run_epoch, tiny_net

METHODS = ("dr-mgf", "meta-gf", "dr-avgf", "dr-mgf-paper")


def main(out: Path) -> None:
    torch.set_num_threads(1)
    for name in METHODS:
        net = tiny_net()
        work = bench(net, name)
        for epoch in range(2):
            run_epoch(work, epoch, 4)
        if work.context.fabric.is_global_zero:
            torch.save(net.state_dict(), out / f"{name}.pt")
    torch.distributed.barrier()  # a process that leaves while another still writes may end it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
