"""How policies are fitted: to a budget of operations, to a measured latency, to a risk."""

from offramp.exits.calibration.published import POINTS, planned, published, published_thresholds

__all__ = ["POINTS", "planned", "published", "published_thresholds"]
