"""What the hunt's trials share: the flags of their scripts, and the net and the recipe of results/long."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import offramp
from offramp.methods import Method

__all__ = ["flags", "train"]


def flags(purpose: str) -> argparse.ArgumentParser:
    """The flags of every trial: data, epochs, seed, limit and out."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=5000, help="of the training images")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def train(args: argparse.Namespace, method: Method, data: Any = None) -> None:
    """Train a VGG7 of width 32, and print the accuracy on validation and test images.

    Args:
        args: Values of the flags.
        method: The trial.
        data: An opened set of ten classes, in place of what the flags name.
    """
    recipe = offramp.Recipe(
        epochs=args.epochs,
        seed=args.seed,
        train_limit=args.limit,
        batch_size=100,
        schedule="cosine",
        weight_decay=5e-4,
        augment="dfs-autoaugment",
        precision="bf16",
        channels_last=True,
    )
    torch.manual_seed(args.seed)
    net = offramp.nets.vgg7(num_classes=10, width=32)
    offramp.fit(net, args.data if data is None else data, method, recipe, args.out)
