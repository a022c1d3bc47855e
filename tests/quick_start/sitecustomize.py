"""Processes that tests start collect garbage seldom, which takes an eighth off the import of torch."""

import gc

gc.set_threshold(10_000, 10, 10)
