"""Any backbone becomes a :class:`~offramp.nets.MultiExitNet`."""

from offramp.nets.attaching.attach import attach

__all__ = ["attach"]
