"""Networks with several exits, and what turns any backbone into one."""

from offramp.nets.multi_exit import Feature, MultiExitNet

__all__ = ["Feature", "MultiExitNet"]
