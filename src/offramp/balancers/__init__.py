"""K losses -> K weighted losses."""

from offramp.balancers.balancer import Balancer
from offramp.balancers.equal import Equal

__all__ = ["Balancer", "Equal"]
