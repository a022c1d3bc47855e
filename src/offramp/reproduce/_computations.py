"""The figures of both papers that no network is trained for."""

from __future__ import annotations

from offramp.papers.catalogue import CURVES, SIMILARITIES
from offramp.reproduce._efficiency import by_batch, by_beta
from offramp.reproduce._toys import toys_report
from offramp.reproduce.computation import Computation

__all__ = ["COMPUTATIONS"]

DFS = CURVES["dfs-fig3"].source.rpartition(",")[0]
DR_MGF = SIMILARITIES.source.rpartition(",")[0]
COMPARED = ("joint", "byot", "dfs")
BETAS = ("dfs beta=0.1", "dfs beta=0.3", "dfs", "dfs beta=0.7", "dfs beta=0.9")

NOT_PLAIN = (
    "the published baseline is the network of split layers with its cuts off; here it is the plain network, "
    "which is faster"
)
ADAPTED = (
    "the layers that make BYOT's features comparable are linear here; in the published code they are "
    "convolutions, which all of its methods run forward and BYOT alone backward"
)
SIZED = "the images' size is that of the network; which images VGG16 was timed on is not told"

COMPUTATIONS = (
    Computation(
        "dfs-fig4-vgg7", f"{DFS}, Fig 4", by_batch(300, 400, 500), "vgg7", "CIFAR-100", "paper", COMPARED,
        (NOT_PLAIN, ADAPTED),
    ),
    Computation(
        "dfs-fig4-vgg16", f"{DFS}, Fig 4", by_batch(128, 192, 256), "vgg16", "CIFAR-100", "paper", COMPARED,
        (NOT_PLAIN, ADAPTED, SIZED),
    ),
    Computation(
        "dfs-fig5-speed", f"{DFS}, Fig 5, right", by_beta(500), "vgg7", "CIFAR-100", "paper", BETAS,
        (
            "the published code splits a layer into two, of odd widths but at beta 0.5; here it is one layer "
            "whatever beta is",
        ),
    ),
    Computation(
        "dr-mgf-fig3", f"{DR_MGF}, Fig 3", toys_report,
        differs=(
            "the figure's functions and starts are not published: problem b is a reconstruction by its "
            "caption, a the toy of CAGrad's authors",
            "steps of dr-mgf take three passes over both losses, those of the others one",
        ),
    ),
)  # fmt: skip
