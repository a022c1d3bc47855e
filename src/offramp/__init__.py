"""offramp: networks with several outputs that do not fight each other."""

from offramp.errors import UserError

__all__ = ["UserError"]
__version__ = "0.1.0"
