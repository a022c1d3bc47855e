"""A short run of ``python -m tests.runtime.fuzz_bundles``, which tries many more."""

from fuzz_bundles import fuzz


def test_spoilt_bundles_are_told_in_one_line():
    outcomes = fuzz(500, seed=1)
    assert outcomes["BundleError"] > 300
    assert outcomes["answered"] > 20
