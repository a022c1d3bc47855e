"""Warnings that come while a command runs."""

import logging
import sys
import warnings

import pytest

from offramp.cli import main
from offramp.nets import text


@pytest.fixture
def told(monkeypatch, capfd):
    """What a command prints to stderr while a function runs in it."""

    def run(act):
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("always")
            plain = text.sketch
            patch.setattr(text, "sketch", lambda *words: act() or plain(*words))
            capfd.readouterr()
            assert main(["cost", "--net", "vgg7:width=4"]) == 0
            return capfd.readouterr().err.splitlines()

    return run


def test_a_warning_is_one_line_without_its_place_in_the_code(told):
    def warn():
        for _ in range(2):
            warnings.warn("two\nlines\x1b", RuntimeWarning, stacklevel=1)
        warnings.warn("of torch (Triggered internally at /pytorch/aten/src/Ops.cpp:12.)", stacklevel=1)

    assert told(warn) == [r"offramp cost: warning: two lines\x1b", "offramp cost: warning: of torch"]


def test_what_libraries_log_is_told_alike_and_once(told):
    logger = logging.getLogger("a library")
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(logging.Formatter("%(pathname)s:%(lineno)d] %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False

    def log():
        logger.warning("%d of them", 3)
        logger.error("%d of them", 3)
        logger.warning("no number: %d", "x")
        logger.info("never shown")

    try:
        assert told(log) == ["offramp cost: warning: 3 of them", "offramp cost: warning: no number: %d"]
    finally:
        logger.removeHandler(handler)


def test_afterwards_warnings_are_pythons_again(told):
    before = warnings.showwarning, logging.Logger.callHandlers
    told(lambda: None)
    assert (warnings.showwarning, logging.Logger.callHandlers) == before


def test_of_several_processes_the_first_one_tells(told, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("RANK", "1")
    assert told(lambda: warnings.warn("again", stacklevel=1)) == []
