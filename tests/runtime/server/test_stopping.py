"""A server that is told to stop answers what has come, refuses what comes, and ends with 0."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_model import png, sample
from http_client import HttpClient
from running import PATIENCE

SERVE = """
from fake_model import FakeModel
from offramp_runtime.server import Server
server = Server(FakeModel(seconds=0.005), port=0)
print(server.url, flush=True)
server.run()
print("stopped", flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_answer(signum):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = process.stdout.readline().strip()
    answered, refused = asyncio.run(load(url, lambda: process.send_signal(signum)))
    said, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said, errors) == (0, "stopped\n", "")
    assert answered >= 40
    assert refused == 40  # every client, in the end


async def load(url, stop):
    """40 clients that ask on and on; how many answers came, all right ones, and how many clients were refused."""
    answered = refused = 0

    async def ask(number):
        nonlocal answered, refused
        client, body = HttpClient(url), png(sample(number, 0.9))
        while True:
            try:
                status, answer = await client.post("/predict", body)
            except asyncio.IncompleteReadError as error:
                assert error.partial == b""  # no answer was cut
                refused += 1
                break
            except OSError:
                refused += 1
                break
            assert (status, answer["prediction"]) == (200, number)
            answered += 1
            if answered == 40:
                stop()
        client.close()

    await asyncio.gather(*(ask(number) for number in range(40)))
    return answered, refused
