"""Processes that tests start collect garbage seldom: an import makes many objects, and none of it."""

import gc

gc.set_threshold(10_000, 10, 10)
