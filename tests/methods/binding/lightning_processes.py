"""A process of two that Lightning's data parallelism wraps the net for; it saves the trained weights."""

import contextlib
import logging
import os
import sys
import warnings
from pathlib import Path

import torch
from binding_cases import batches, tiny_net

from offramp.data import Batch
from offramp.methods import method

NAMES = ["joint", "cagrad"]


def trained(lightning, name: str, rank: int, world: int) -> list[torch.Tensor]:
    """Weights after an epoch by hand, each process with its share of every batch."""

    class Training(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = tiny_net()
            self.method = method(name).bind(self.net).double()

        def training_step(self, batch, batch_index):
            self.net.eval()  # batch norm would see another batch
            images, labels = batch
            optimizer = self.optimizers()
            optimizer.zero_grad()
            mine = Batch(images, {"label": labels}).share(rank, world)
            self.method.backward(mine, run=self.manual_backward)
            optimizer.step()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    training = Training()
    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(training, torch.utils.data.DataLoader(list(batches()), batch_size=None))
    return [p.detach().clone() for p in training.parameters()]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for operator in ("nms", "qnms"):  # whose schemas a build of torchvision without its binaries looks for
        with contextlib.suppress(RuntimeError):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
    import pytorch_lightning

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for name in NAMES:
        torch.save(trained(pytorch_lightning, name, rank, world), Path(sys.argv[1]) / f"{name}-{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
