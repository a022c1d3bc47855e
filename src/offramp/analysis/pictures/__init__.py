"""The pictures of the diagnosis; matplotlib is imported when one is drawn."""

from offramp.analysis.pictures.convergence import draw_convergence
from offramp.analysis.pictures.filters import draw_filters
from offramp.analysis.pictures.interference import draw_interference
from offramp.analysis.pictures.pairs import draw_cosines
from offramp.analysis.pictures.pruning import draw_pruning
from offramp.analysis.pictures.routes import draw_routes
from offramp.analysis.pictures.similarity import draw_similarity

__all__ = [
    "draw_convergence",
    "draw_cosines",
    "draw_filters",
    "draw_interference",
    "draw_pruning",
    "draw_routes",
    "draw_similarity",
]
