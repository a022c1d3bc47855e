"""A run that several tests spoil copies of; and no files of Hypothesis's in the tree."""

import tempfile
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from runs_to_spoil import finished

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis-of-offramp")


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A finished run."""
    return finished(tmp_path_factory.mktemp("good") / "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the copies lie, one after the other."""
    return tmp_path_factory.mktemp("copies") / "copy"
