"""Clients that are slow, rude or many: each gets its clear error, and the others are served."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, suppress
from socket import IPPROTO_TCP, SHUT_WR, TCP_NODELAY

import pytest
from _http_client import HttpClient
from fake_model import FakeModel, sample
from offramp_runtime.server._connection import Connection
from prometheus_client.parser import text_string_to_metric_families
from running import connect, everything, head, metric, one_response, png, running, until

IMAGE = {"Content-Type": "image/png"}
BODY = png(sample(7, 0.9))


def served(client):
    """Whether somebody else gets the right answer."""
    answer = client.post("/predict", content=png(sample(11, 0.1, 0.2, 0.3)), headers=IMAGE)
    return answer.json()["prediction"] == 11


def gone_away(client):
    """How many predictions were given up since their client went away."""
    line = 'offramp_responses_total{path="/predict",code="499"} '
    told = client.get("/metrics").text
    return float(told.partition(line)[2].partition("\n")[0]) if line in told else 0


@pytest.fixture(scope="module")
def client():
    with running(FakeModel(), patience=1, max_body=200_000) as client:
        yield client


SLOW = [
    b"POST /pre",
    head("/predict", 100)[:-2],
    head("/predict", 100),
    head("/predict", len(BODY)) + BODY[:-1],
    head("/predict").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
    head("/healthz", method="GET") + b"GET /heal",
]


def test_clients_that_do_not_go_on_are_told_so(client):
    slow = metric(client, 'offramp_dropped_total{reason="slow"}')
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(client)) for _ in SLOW]
        silent = stack.enter_context(connect(client))
        for plain, sent in zip(clients, SLOW, strict=True):
            plain.sendall(sent)
        assert served(client)
        for plain in clients:
            assert b"HTTP/1.1 408" in (last := everything(plain)) and b"more than 1 seconds" in last
        assert everything(silent) == b""
    until(lambda: metric(client, 'offramp_dropped_total{reason="slow"}') == slow + len(SLOW) + 1)
    assert served(client)


def test_a_client_that_sends_byte_by_byte_gets_no_more_time(client):
    with connect(client) as plain, pytest.raises(OSError):
        for _ in range(100_000):
            plain.sendall(b"X")
            assert served(client)
    assert served(client)


@pytest.mark.parametrize("cut", [20, len(head("/predict", len(BODY))), -1])
def test_a_request_cut_off_half_way_hurts_nobody(client, cut):
    malformed = metric(client, 'offramp_dropped_total{reason="malformed"}')
    gone = gone_away(client)
    with connect(client) as plain, connect(client) as still_reads:
        for each in (plain, still_reads):
            each.sendall((head("/predict", len(BODY)) + BODY)[:cut])
        still_reads.shutdown(SHUT_WR)
        assert one_response(still_reads) == (400, {"error": "the request is cut off"})
        assert everything(still_reads) == b""
    assert served(client)
    until(lambda: metric(client, 'offramp_dropped_total{reason="malformed"}') >= malformed + 2)
    if cut != 20:  # in the midst of the body, which the application was about to read
        until(lambda: gone_away(client) == gone + 2)


def test_a_request_behind_one_too_large_has_its_own_time(monkeypatch):
    """The first is answered before it has come, so both are on their way when the second begins."""
    connections = []
    made = Connection.connection_made
    monkeypatch.setattr(Connection, "connection_made", lambda *of: (connections.append(of[0]), made(*of)))
    with running(FakeModel(), max_body=1000) as client, connect(client) as plain:
        plain.sendall(head("/predict", 2000))
        assert one_response(plain)[0] == 413
        first = connections[0]._timer
        plain.sendall(bytes(2000) + head("/predict", len(BODY)) + BODY[:-2])
        until(lambda: connections[0]._timer is not first)
        assert first.cancelled()
        second = connections[0]._timer
        plain.sendall(BODY[-2:-1])  # which gives no more time
        assert served(client)
        assert connections[0]._timer is second
        plain.sendall(BODY[-1:])
        assert one_response(plain)[0] == 200


def test_a_client_that_never_reads_is_dropped(client):
    unread = metric(client, 'offramp_dropped_total{reason="unread"}')
    with connect(client, buffer=1024) as plain, pytest.raises(OSError):
        for _ in range(100_000):
            plain.sendall(head("/", method="GET") * 100)
    until(lambda: metric(client, 'offramp_dropped_total{reason="unread"}') == unread + 1)
    assert served(client)


def test_a_body_too_large_is_answered_while_it_still_comes(client):
    with connect(client) as plain:
        plain.sendall(head("/predict", 10**12))
        assert one_response(plain) == (413, {"error": "a request may have 200000 bytes"})
        with pytest.raises(OSError):  # what still comes is thrown away, until the client's time is over
            while True:
                plain.sendall(bytes(65536))
    assert served(client)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",  # a TLS client
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Header: x\r\n" * 20_000,
        b"G" * 100_000,
    ],
)
def test_what_is_not_http_gets_400(client, sent):
    with connect(client) as plain:
        with suppress(OSError):
            plain.sendall(sent)
        assert everything(plain)[:12] in (b"HTTP/1.1 400", b"")
    assert served(client)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_that_is_not_http_is_told_once(client, caplog, method):
    """The application, which answers without the body, has nobody to answer any more."""
    with connect(client) as plain:
        plain.sendall(f"{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n".encode())
        told = everything(plain)
    assert told.startswith(b"HTTP/1.1 400")
    assert told.endswith(b"\r\n\r\n") == (method == "HEAD")
    assert served(client)
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_requests_in_one_go_are_answered_in_order(client):
    bodies = [png(sample(number, 0.9)) for number in range(20)]
    with connect(client) as plain:
        plain.sendall(b"".join(head("/predict", len(body)) + body for body in bodies))
        plain.sendall(b"no more")
        file = everything(plain)
    places = [file.index(f'"class":"class {number}"'.encode()) for number in range(20)]
    assert places == sorted(places)


def test_answers_are_sent_at_once(client, monkeypatch):
    """Nagle's algorithm would hold the end of an answer back until the client confirms its beginning."""
    delays = []
    made = Connection.connection_made

    def note(self, transport):
        made(self, transport)
        delays.append(not transport.get_extra_info("socket").getsockopt(IPPROTO_TCP, TCP_NODELAY))

    monkeypatch.setattr(Connection, "connection_made", note)
    with connect(client) as plain:
        plain.sendall(head("/healthz", method="GET"))
        assert one_response(plain) == (200, {"status": "ok"})
    assert delays == [False]


def test_an_address_of_ipv6_stands_in_brackets():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(FakeModel(), host="::1") as client:
        assert str(client.base_url).startswith("http://[::1]:")
        assert served(client)


def test_connections_have_a_bound(monkeypatch):
    monkeypatch.setattr("offramp_runtime.server._serve.MOST_CONNECTIONS", 3)
    with running(FakeModel()) as client, connect(client) as one, connect(client) as two:
        for plain in (one, two):
            plain.sendall(head("/healthz", method="GET"))
            assert one_response(plain) == (200, {"status": "ok"})
        assert served(client)
        with connect(client) as three:
            error = {"error": "too many connections; try again in a second"}
            assert one_response(three) == (503, error)
            assert everything(three) == b""
        assert metric(client, 'offramp_dropped_total{reason="crowded"}') == 1


def test_the_health_says_when_the_model_runs_no_more():
    model = FakeModel()
    with running(model) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        model.opened.close()
        assert client.get("/healthz").status_code == 503
        assert client.post("/predict", content=BODY, headers=IMAGE).status_code == 503


def test_a_full_queue_refuses_with_429_and_loses_nothing():
    model = FakeModel()
    with running(model, capacity=4) as client, ExitStack() as stack:
        model.open.clear()
        waiting = [stack.enter_context(connect(client)) for _ in range(4)]
        for number, plain in enumerate(waiting):
            body = png(sample(number, 0.9))
            plain.sendall(head("/predict", len(body)) + body)
        until(lambda: metric(client, "offramp_queue_length") == 4)
        refused = client.post("/predict", content=BODY, headers=IMAGE)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "4 requests wait" in refused.json()["error"]
        assert metric(client, 'offramp_rejected_total{reason="queue"}') == 1
        assert client.post("/walk", content=BODY, headers=IMAGE).status_code == 200
        model.open.set()
        answers = [one_response(plain) for plain in waiting]
        assert [(status, answer["prediction"]) for status, answer in answers] == [
            (200, number) for number in range(4)
        ]
        assert served(client)


def test_all_bodies_together_have_a_bound():
    with running(FakeModel(), max_body=1000) as client, ExitStack() as stack:
        for _ in range(16):
            plain = stack.enter_context(connect(client))
            plain.sendall(head("/predict", 1000) + bytes(999))
        until(lambda: client.post("/predict", content=BODY, headers=IMAGE).status_code == 429)
        assert client.get("/healthz").status_code == 200
        assert metric(client, 'offramp_rejected_total{reason="bodies"}') >= 1
        stack.close()
        until(lambda: client.post("/predict", content=BODY, headers=IMAGE).status_code == 200)


def test_nothing_is_computed_for_a_client_that_went_away():
    model = FakeModel()
    with running(model) as client:
        model.open.clear()
        with connect(client) as plain:
            plain.sendall(head("/predict", len(BODY)) + BODY)
            until(lambda: metric(client, "offramp_queue_length") == 1)
        until(lambda: metric(client, "offramp_queue_length") == 0)
        model.open.set()
        assert served(client)
        assert model.started == 1
        assert gone_away(client) == 1


def test_a_request_that_is_late_gets_504():
    model = FakeModel()
    with running(model) as client:
        model.open.clear()
        late = client.post("/predict?timeout=0.05", content=BODY, headers=IMAGE)
        assert (late.status_code, late.json()) == (504, {"error": "no answer within 0.05 seconds"})
        model.open.set()
        assert served(client)


def test_every_one_of_many_clients_gets_its_own_answer():
    async def all_at_once(url):
        clients = [HttpClient(url) for _ in range(300)]
        bodies = [png(sample(n % 190, (n % 7) / 7, (n % 5) / 5, 1)) for n in range(300)]
        asked = (each.post("/predict", body) for each, body in zip(clients, bodies, strict=True))
        answers = await asyncio.gather(*asked)
        for each in clients:
            each.close()
        return [answer for status, answer in answers if status == 200]

    with running(FakeModel()) as client:
        answers = asyncio.run(all_at_once(str(client.base_url)))
        assert [answer["prediction"] for answer in answers] == [n % 190 for n in range(300)]
        exits = [1 if n % 7 == 6 else 2 if n % 5 == 4 else 3 for n in range(300)]
        assert [answer["exit"] for answer in answers] == exits
        families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    left = {each.labels["exit"]: each.value for each in families["offramp_exits"].samples}
    assert left == {str(number): exits.count(number) for number in (1, 2, 3)}
    latencies = families["offramp_latency_seconds"].samples
    assert [each.value for each in latencies if each.name.endswith("_count")] == [300]
    assert [each.value for each in latencies if each.labels.get("le") == "+Inf"] == [300]
