"""Where the outputs of a trained net conflict, what each of them needs, and how training went.

On top of everything else: it reads runs, computes gradients, prunes and draws. :func:`diagnose` looks at run
folders; the other functions work on any net, also while it is trained.
"""

from offramp.analysis.conflict import Interference, OutputInterference, conflict, pooled
from offramp.analysis.convergence import Curves, curves
from offramp.analysis.diagnosis import Diagnosis, diagnose
from offramp.analysis.filter_conflict import FilterConflict, filter_conflicts
from offramp.analysis.filters import filter_sums, shared_owners
from offramp.analysis.gradients import TaskGradients, task_gradients
from offramp.analysis.importance import GradientNorms, Importance, route_importance
from offramp.analysis.pairs import Cosines, PairConflict
from offramp.analysis.prune import FilterCounts, Pruning, own_counts, own_filters, pruned, pruning_matrix
from offramp.analysis.settings import Settings
from offramp.analysis.similarity import Likeness, common_routes, likeness, null_similarities, similarity
from offramp.modes import measuring

__all__ = [
    "Cosines",
    "Curves",
    "Diagnosis",
    "FilterConflict",
    "FilterCounts",
    "GradientNorms",
    "Importance",
    "Interference",
    "Likeness",
    "OutputInterference",
    "PairConflict",
    "Pruning",
    "Settings",
    "TaskGradients",
    "common_routes",
    "conflict",
    "curves",
    "diagnose",
    "filter_conflicts",
    "filter_sums",
    "likeness",
    "measuring",
    "null_similarities",
    "own_counts",
    "own_filters",
    "pooled",
    "pruned",
    "pruning_matrix",
    "route_importance",
    "shared_owners",
    "similarity",
    "task_gradients",
]
