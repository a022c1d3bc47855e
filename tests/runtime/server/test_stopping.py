"""A server that is told to stop answers what has come, refuses what comes, and ends with 0."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from _http_client import HttpClient
from fake_model import FakeModel, sample
from offramp_runtime import InputError
from offramp_runtime.server import Server
from running import PATIENCE, png
from tiny_bundles import CLASSES, SIZE, ImageNet, write_bundle

SLOW = """
import sys
from fake_model import FakeModel
from offramp_runtime.server import Server
server = Server(FakeModel(seconds=0.005), port=0)
print("served at", server.url, file=sys.stderr, flush=True)
server.run()
"""
BUNDLE = """
import sys
from offramp_runtime.server import serve
serve(sys.argv[1], port=0, threads=1)
assert "torch" not in sys.modules
"""


@contextmanager
def serving(program, *words):
    """A process that runs a program that serves, and its URL; it ends with 0 and says nothing more."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stderr.readline().rpartition(" ")[2].strip()
        said, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert (process.returncode, said, errors) == (0, "", "")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_answer(signum):
    with serving(SLOW) as (process, url):
        answered, refused = asyncio.run(load(url, lambda: process.send_signal(signum)))
    assert answered >= 40
    assert refused == 40  # every client, in the end


def test_a_bundle_is_served_until_the_process_is_told_to_stop(tmp_path):
    tag = struct.pack("<HHII", 40_000, 1, 10**6, 8)  # with more bytes than the file, of which Pillow warns
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
    with serving(BUNDLE, write_bundle(tmp_path / "bundle", ImageNet())) as (process, url):
        refused = httpx.post(f"{url}/predict", content=tiff, headers={"Content-Type": "image/tiff"})
        assert refused.status_code == 400
        told = httpx.post(f"{url}/predict", json={"input": np.zeros((3, SIZE, SIZE), int).tolist()})
        assert told.json()["class"] in CLASSES
        process.send_signal(signal.SIGTERM)


def test_the_program_has_its_signals_back():
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(each) for each in signals]
    server = Server(FakeModel(), port=0)

    def stop_once_it_answers():
        with suppress(httpx.HTTPError):
            httpx.get(f"{server.url}/healthz", timeout=PATIENCE)
        server.stop()

    stopper = threading.Thread(target=stop_once_it_answers)
    stopper.start()
    server.run()
    stopper.join()
    assert [signal.getsignal(each) for each in signals] == before


def test_settings_are_checked_before_anything_is_served(images):
    for settings, words in (
        ({"max_batch": 0}, "max_batch is 0"),
        ({"capacity": 0}, "capacity is 0"),
        ({"max_wait": -1}, "max_wait is -1"),
        ({"max_body": 0}, "max_body is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"host": "no.such.host.invalid"}, "cannot listen at no.such.host.invalid, port 0"),
        ({"host": "é..invalid"}, "cannot listen at é..invalid, port 0: .*; give another host or port"),
        ({"host": 127}, "host is 127, must be"),
        ({"port": 2**16}, "port is 65536"),
    ):
        with pytest.raises(InputError, match=words):
            Server(images.model, **{"port": 0, **settings})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: Address already in use; give another"):
            Server(images.model, port=port)


async def load(url, stop):
    """40 clients that ask on and on: how many right answers came, and how many clients got none at last."""
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
