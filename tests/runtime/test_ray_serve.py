"""`serve run` starts a bundle on a local Ray, and it answers as the model does."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import offramp_runtime
import pytest
import yaml
from pydantic import ValidationError
from tiny_bundles import SIZE, ImageNet, write_bundle

SOURCE = Path(__file__).parents[2] / "runtime" / "src"
PATIENT = {f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S": "200" for check in ("READY", "HEALTH")}  # seconds
SERVE = Path(sysconfig.get_path("scripts")) / "serve"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("ray") / "bundle", ImageNet())


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:  # what Serve starts there has the environment of the node
        for name, value in (PATIENT | {"PYTHONPATH": str(SOURCE)}).items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def client(bundle, cluster, tmp_path_factory):
    """A client of the bundle that `serve run` has started."""
    folder, port = tmp_path_factory.mktemp("serve"), free_port()
    application = {
        "name": "early-exit",
        "import_path": "offramp_runtime.ray_serve:app",
        "args": {"bundle": str(bundle), "max_batch": 8, "max_wait": 0.001},
        "deployments": [{"name": "bundle", "graceful_shutdown_timeout_s": 5}],
    }
    options = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}
    (folder / "serve.yaml").write_text(yaml.safe_dump(options))
    environment = os.environ | PATIENT | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(SOURCE)}
    with (folder / "log").open("wb") as log:
        words = [sys.executable, SERVE, "run", folder / "serve.yaml"]
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            until = time.monotonic() + 200
            while not healthy(client):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.2)
            yield client
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def healthy(client):
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_each_client_gets_the_answer_of_its_sample_at_its_threshold(client, bundle):
    samples = np.random.default_rng(0).integers(0, 256, (12, 3, SIZE, SIZE), dtype=np.uint8)
    model = offramp_runtime.load(bundle, threads=1)
    for threshold in (None, 0.0, 1.0):
        wanted = model.predict(samples, threshold)

        def ask(sample, threshold=threshold):
            limits = {} if threshold is None else {"threshold": threshold}
            answer = client.post("/predict", json={"input": sample.tolist(), "probabilities": True, **limits})
            assert answer.status_code == 200, answer.text
            return answer.json()

        with ThreadPoolExecutor(6) as clients:
            told = [*clients.map(ask, samples)]
        assert [each["exit"] for each in told] == wanted.exit.tolist()
        assert [each["prediction"] for each in told] == wanted.prediction.tolist()
        for each, row in zip(told, wanted.probabilities, strict=True):
            assert each["probabilities"] == pytest.approx(row.tolist(), abs=1e-5)
    assert client.post("/predict", json={"input": [1, 2]}).status_code == 400
    assert "offramp_exits_total" in client.get("/metrics").text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own models, as it is imported
def test_words_that_it_does_not_know_are_refused():
    from offramp_runtime.ray_serve import Settings

    for wrong in ({}, {"bundle": "b", "thread": "2"}, {"bundle": "b", "replicas": "0"}):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)
    assert Settings.model_validate({"bundle": "b", "threads": "4"}).threads == 4  # as words come
