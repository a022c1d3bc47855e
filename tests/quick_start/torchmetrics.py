"""In place of torchmetrics, in processes that tests start.

Lightning Fabric imports torchmetrics where it is there, and SciPy with it: longer than a tiny training takes.
"""

raise ImportError("a training needs no torchmetrics")
