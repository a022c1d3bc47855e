"""``python -m offramp`` is ``offramp``."""

import sys

from offramp.cli import main

sys.exit(main())
