"""Processes that start leave signals alone, and so does what starts or ends them, until it is done."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from offramp.signals import STOP_SIGNALS, deaf_to_signals

# A signal to a process of several threads may be taken by one that does not block it.
CODE = """
import os, signal, threading, time
from offramp.signals import deaf_to_signals
class Stop(Exception): ...
def stop(signum, frame):
    raise Stop
signal.signal(signal.SIGTERM, stop)
waits = threading.Event()
threading.Thread(target=waits.wait, daemon=True).start()
done = ""
try:
    with deaf_to_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        done = "done"
except Stop:
    print(done, "stopped", signal.getsignal(signal.SIGTERM) is stop)
"""


def test_another_thread_takes_the_signal_and_nothing_is_interrupted():
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert (told.stdout, told.stderr) == ("done stopped True\n", "")


def test_handlers_and_blocked_signals_are_as_before():
    handlers = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with deaf_to_signals():
        assert set(STOP_SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(KeyboardInterrupt), deaf_to_signals():
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == handlers
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
