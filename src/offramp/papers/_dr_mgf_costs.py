"""What the networks of the DR-MGF paper (Sun et al., arXiv 2305.19844) cost by the counter behind its tables.

Tables 1 and 2 print the costs with 10 classes for both data sets, Table 3 those with 100; the rest is printed
nowhere.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COUNTS", "Count"]


class Count(NamedTuple):
    """Costs of the exits of a net by the counter behind the tables (convention ``op-counter``).

    Attributes:
        params: Millions of parameters of each exit, without the pooling shares of internal classifiers.
        flops: Millions of operations of each exit.
    """

    params: tuple[float, ...]
    flops: tuple[float, ...]


# By net and number of classes.
COUNTS = {
    ("vgg_sdn", 10): Count(
        (0.05, 0.29, 1.22, 1.85, 5.47, 7.86, 15.47), (39.76, 96.52, 153.25, 191.08, 247.81, 285.60, 314.45)
    ),
    ("vgg_sdn", 100): Count(
        (0.14, 0.57, 1.86, 2.86, 7.23, 9.79, 17.45), (39.85, 96.79, 153.89, 192.09, 249.57, 287.54, 316.43)
    ),
    ("resnet_sdn", 10): Count(
        (0.02, 0.04, 0.10, 0.18, 0.36, 0.67, 0.89), (19.50, 38.54, 56.47, 75.43, 93.32, 112.25, 126.44)
    ),
    ("resnet_sdn", 100): Count(
        (0.04, 0.09, 0.20, 0.32, 0.59, 0.99, 1.22), (19.52, 38.59, 56.56, 75.57, 93.56, 112.57, 126.76)
    ),
    ("wideresnet_sdn", 10): Count(
        (0.21, 0.36, 0.91, 1.52, 2.78, 5.18, 7.55), (200.16, 351.56, 542.74, 693.96, 885.04, 1036.17, 1187.27)
    ),
    ("msdnet_cifar", 10): Count(
        (0.89, 1.81, 2.76, 3.71, 4.86, 6.03, 7.28), (56.41, 100.98, 155.28, 198.05, 249.48, 297.98, 340.56)
    ),
    ("msdnet_cifar", 100): Count(
        (0.90, 1.84, 2.80, 3.76, 4.92, 6.10, 7.36), (56.43, 101.00, 155.31, 198.10, 249.53, 298.05, 340.64)
    ),
    ("msdnet_imagenet", 1000): Count(
        (4.24, 8.77, 13.07, 16.75, 23.96), (339.90, 685.46, 1008.16, 1254.47, 1360.53)
    ),
}
