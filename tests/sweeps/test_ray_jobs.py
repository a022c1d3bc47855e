"""Jobs on a cluster that answers as Ray does, but only pretends to run them."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from offramp import UserError
from offramp.runs.lock import Lock
from offramp.sweeps import _ray_jobs
from offramp.sweeps._jobs import Job
from offramp.sweeps._ray_jobs import Share, run_on_ray
from offramp.sweeps._ray_worker import run_here
from offramp.sweeps.sweep import _failure
from offramp.training.interrupt import Interruption


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class PretendedRay:
    """Each attempt at a job ends as its list says; one without an ending goes on until it is cancelled."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)

    def __init__(self, **endings):
        self.endings, self.started, self.cancelled, self.asked, self.gpus = endings, [], [], None, 0
        self.address = "not asked"

    def is_initialized(self):
        return False

    def init(self, address, **_):
        self.address = address

    def shutdown(self):
        pass

    def nodes(self):
        return [
            {"Alive": True, "Resources": {"CPU": 2.0, "GPU": self.gpus}},
            {"Alive": False, "Resources": {}},
        ]

    def remote(self, **asked):
        self.asked = asked
        return lambda function: SimpleNamespace(
            options=lambda name: SimpleNamespace(remote=self._start(name))
        )

    def _start(self, name):
        def start(words, *_):
            self.started.append((name, float(words[3])))
            return (name, len(self.started))

        return start

    def wait(self, tasks, timeout):
        return [task for task in tasks if self.endings[task[0]] or task in self.cancelled][:1], []

    def get(self, task):
        if task in self.cancelled:
            raise RayError("cancelled")
        ending = self.endings[task[0]].pop(0)
        if isinstance(ending, Exception):
            raise ending
        return (ending, 1.0, None)

    def cancel(self, task, force=False):
        self.cancelled.append((*task, "force") if force else task)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs jobs by the names of their endings: name -> how it ended, and what was told."""
    (tmp_path / ".lock").write_bytes(b"mine")

    def run(ray, address="", **share):
        monkeypatch.setattr(_ray_jobs, "import_ray", lambda: ray)
        jobs = [
            Job(name, ["python", "-m", "offramp", "train"], tmp_path / f"{name}.log") for name in ray.endings
        ]
        ended, told = {}, []

        def on_end(result):
            ended[result.job.name] = result

        wanted = Share(**{"cpus": 1.0, "gpus": None, "threads": 1, **share})
        try:
            run_on_ray(jobs, address, wanted, lock=tmp_path / ".lock", on_end=on_end, tell=told.append)
        finally:
            run.ended, run.told = ended, told
        return ended, told

    return run


def test_a_run_starts_again_once_when_its_worker_is_lost_and_fails_when_that_is_lost_too(run):
    lost = RayError("the node died\nand a page of detail")
    ray = PretendedRay(a=[0], b=[lost, 0], c=[lost, lost])
    ended, told = run(ray)
    assert [*ray.started[:3]] == [("a", 0), ("b", 0), ("c", 0)]
    assert sorted(ray.started[3:]) == [("b", 120), ("c", 120)]  # and then wait for the lost one's lock
    assert [ended[name].code for name in "abc"] == [0, 0, -signal.SIGKILL]
    assert ended["c"].reason == "its worker was lost twice: the node died"
    assert sorted(told[1:]) == [
        f"{name}: its worker was lost: the node died; it goes on from its last checkpoint" for name in "bc"
    ]
    failure = _failure(ended["c"])
    assert failure.reason == ended["c"].reason
    assert failure.users


def test_what_a_worker_raises_is_a_failure_of_ours(run):
    ended, _ = run(PretendedRay(a=[RayTaskError("remote traceback\n  line\nOSError: no space")]))
    assert (ended["a"].code, ended["a"].reason) == (1, "OSError: no space")
    assert not _failure(ended["a"]).users


@pytest.mark.parametrize(
    ("gpus", "share", "asked", "says"),
    [
        (0, {}, {"num_cpus": 1, "num_gpus": 0}, "nodes: 1; for each run CPUs: 1, GPUs: 0, threads: 1"),
        (4, {}, {"num_cpus": 1, "num_gpus": 1}, "CPUs: 1, GPUs: 1, threads: 1"),
        (
            4,
            {"gpus": 0.25, "cpus": 2.0, "threads": 2},
            {"num_cpus": 2, "num_gpus": 0.25},
            "GPUs: 0.25, threads: 2",
        ),
        (4, {"gpus": 0.0}, {"num_cpus": 1, "num_gpus": 0}, "GPUs: 0, threads: 1"),
    ],
)
def test_a_run_has_the_share_that_is_asked_for(run, gpus, share, asked, says):
    ray = PretendedRay(a=[0])
    ray.gpus = gpus
    _, told = run(ray, **share)
    assert ray.asked == {**asked, "max_retries": 0}
    assert ray.address is None  # the cluster that Ray finds
    assert len(told) == 1
    assert says in told[0]


def test_a_cluster_without_room_is_said(run):
    _, told = run(PretendedRay(a=[0]), cpus=16.0)
    assert (
        told[1] == "no node has CPUs: 16, GPUs: 0; the runs wait until one comes, and Ctrl-C ends the waiting"
    )


def send(signum, times, after):
    def later():
        for _ in range(times):
            time.sleep(after)
            os.kill(os.getpid(), signum)

    threading.Thread(target=later).start()


def test_one_signal_cancels_all(run, capsys):
    ray = PretendedRay(a=[0], b=[], c=[])
    send(signal.SIGTERM, 1, 0.3)
    with pytest.raises(Interruption, match="stopped by SIGTERM"):
        run(ray)
    assert [name for name, *_ in ray.cancelled] == ["b", "c"]
    assert [*run.ended] == ["a"]
    assert "stopping the runs at their next checkpoint" in capsys.readouterr().err


def test_two_signals_kill(run, monkeypatch):
    ray = PretendedRay(a=[])
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: (time.sleep(0.05), ([], []))[1])
    send(signal.SIGINT, 2, 0.3)
    with pytest.raises(Interruption, match="interrupted twice"):
        run(ray)
    assert ray.cancelled == [("a", 1), ("a", 1, "force")]


# What a worker does.


def words(code):
    return ["-c", code]


@pytest.fixture
def here(tmp_path):
    """The arguments of a worker at a folder that it shares with the sweep."""
    (tmp_path / ".lock").write_bytes(b"mine")
    return [str(tmp_path), str(tmp_path / "log"), 3, str(tmp_path / ".lock"), b"mine"]


def test_a_worker_runs_a_job_in_the_sweeps_folder_with_its_threads(here, tmp_path):
    code = "import os; print(os.getcwd(), os.environ['OMP_NUM_THREADS']); raise SystemExit(5)"
    assert run_here(words(code), *here)[::2] == (5, None)
    run_here(words("print('again')"), *here)
    assert (tmp_path / "log").read_text() == f"{tmp_path.resolve()} 3\nagain\n"


def test_a_worker_refuses_a_folder_that_is_not_the_sweeps(here, tmp_path):
    code, _, reason = run_here(words(""), *here[:-1], b"another's")
    assert code == 2
    assert reason.startswith(f"{tmp_path} on ")
    assert reason.endswith("is not the folder that it is where the sweep was started")
    assert run_here(words(""), str(tmp_path / "none"), *here[1:])[2].startswith(f"{tmp_path / 'none'} on ")
    assert not (tmp_path / "log").exists()


def test_a_cancelled_worker_lets_its_job_end_in_good_order(here, tmp_path):
    code = "import signal as s; s.signal(15, lambda *_: exit(7)); print('on', flush=True); s.pause()"

    def cancel():
        while not ((tmp_path / "log").exists() and (tmp_path / "log").read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=cancel).start()
    assert run_here(words(code), *here)[::2] == (7, None)


def test_a_training_on_a_leash_waits_for_the_lock_of_one_that_was_lost(tmp_path):
    command = [sys.executable, "-m", "offramp.sweeps._leashed", tmp_path, "0.2", "train", "--help"]
    with Lock(tmp_path), subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said = process.stderr.read().decode()
    assert process.returncode == 2
    assert said.startswith(f"offramp train: {tmp_path} has a writer: process {os.getpid()} on ")


def test_a_cluster_that_does_not_answer_is_named(run):
    ray = PretendedRay(a=[0])

    def init(**_):
        raise ConnectionError("nobody there\nfor a minute")

    ray.init = init
    with pytest.raises(UserError, match=r"no Ray cluster answers: nobody there$"):
        run(ray)


def test_an_address_where_nobody_listens_is_told_at_once(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for asked in (address, f"ray://{address}"):
            ray = PretendedRay(a=[0])
            with pytest.raises(UserError, match=f"no Ray cluster answers at '{asked}': .*refused"):
                run(ray, asked)
            assert ray.address == "not asked"


@pytest.mark.parametrize(
    ("says", "reason"),
    [(b"HTTP/1.1 400 Bad Request\r\n", "not Ray"), (b"", "not Ray"), (None, "timed out")],
)
def test_what_listens_at_an_address_and_is_not_ray_is_told_at_once(run, monkeypatch, says, reason):
    monkeypatch.setattr(_ray_jobs, "CONNECT_PATIENCE", 0.2 if says is None else 60)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(says)

        if says is not None:
            threading.Thread(target=answer, daemon=True).start()
        ray = PretendedRay(a=[0])
        with pytest.raises(UserError, match=f"no Ray cluster answers at '.*': .*{reason}"):
            run(ray, f"127.0.0.1:{listener.getsockname()[1]}")
        assert ray.address == "not asked"
