"""The scale invariant: K equal rows give K times that row, as the plain sum does; and the exceptions.

Otherwise a method that averages would train the shared weights at lr / K, and no comparison were fair.
"""

from __future__ import annotations

__all__ = ["EXCEPTIONS"]

EXCEPTIONS: dict[str, str] = {
    "cagrad": "the authors' factor, m / (1 + c^2), makes it m (1 + c) / (1 + c^2) times: 1.21 m for c = 0.4",
    "cagrad-meta-gf": "scaling=native leaves the mean: (1 + c) / (1 + c^2) times, 1.2 for c = 0.5; and "
    "shared=all weighs heads too, each by its own row's weight",
    "ztw": "the mean of the heads' losses, as published, and not their sum",
    "uncertainty": "the weights of the losses are 1/2 at first, and later near 1 / (2 L)",
    "imtl-l": "the weights of the losses are 1 at first, and later near 1 / L",
    "random": "a head moves by its loss's drawn weight; the trunk keeps the invariant",
    "dtp": "the weights fall from 2.1 to 0 as the outputs get better; normalise=true keeps the invariant",
    "pcgrad-meta-gf": "shared=all takes heads for a part of the rows: where rows oppose, they are scaled too",
    "nash-mtl": "its direction is clipped to the norm 1, as published; max_norm=0 keeps the invariant",
    "getmtl": "the distance grows with the direction: m / (1 - eps n) times, n the norm of the mean gradient",
    "FairGrad": "alpha-fairness fixes the direction's length by itself: sqrt(m) for alpha = 1, any rows",
    "adatask": "each row moves a shared tensor by a step of Adam, m lr in all, whatever its size; mean: lr",
    "bdl-1": "each block hears only the losses whose window holds it: at most three",
    "bdl-2": "each block hears only the losses whose window holds it: at most three, and the last",
}
