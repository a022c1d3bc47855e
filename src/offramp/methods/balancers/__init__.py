"""K losses -> K weighted losses."""

from offramp.methods.balancers.balancer import Balancer
from offramp.methods.balancers.equal import Equal

__all__ = ["Balancer", "Equal"]
