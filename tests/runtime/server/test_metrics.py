"""What the metrics count, and what they do not."""

from __future__ import annotations

from fake_model import FakeModel, sample
from offramp_runtime.server._metrics import Metrics
from running import metric, png, running

IMAGE = {"Content-Type": "image/png"}


def test_a_time_on_the_edge_of_a_bucket_is_in_it():
    metrics = Metrics([1], lambda: 0)
    metrics.latency(0.25)
    lines = metrics.text().splitlines()
    assert 'offramp_latency_seconds_bucket{le="0.1"} 0' in lines
    assert 'offramp_latency_seconds_bucket{le="0.25"} 1' in lines


def test_errors_are_the_server_s_times_those_of_answers_and_paths_the_known_ones():
    with running(FakeModel()) as client:
        client.post("/predict", content=png(sample(7, 1)), headers=IMAGE)
        failed = client.post("/predict", content=png(sample(199, 1)), headers=IMAGE)  # a fault of the model
        assert (failed.status_code, failed.headers["connection"]) == (500, "close")
        client.post("/predict", content=b"no image", headers=IMAGE)
        client.get("/made/up")
        assert metric(client, 'offramp_responses_total{path="other",code="404"}') == 1
        assert metric(client, "offramp_errors_total") == 1
        assert metric(client, "offramp_latency_seconds_count") == 1
