"""The queue by itself: it serves any engine, and needs nothing but Python."""

import ast
import contextlib
import sys
from pathlib import Path

import pytest

from offramp.exits import queueing
from offramp.exits.queueing import Backlog, BatchResult, Closed, Kind, Pace, Request, Worker


class Countdown:
    """Counts whole numbers down, a step at a time; they leave at 0, and a 13 is an error."""

    def __init__(self):
        self.inside = False

    @contextlib.contextmanager
    def context(self):
        self.inside = True
        yield
        self.inside = False

    def run(self, number, requests, *, anew=False):
        assert self.inside
        left = [request.inputs[0] - number for request in requests]
        if 13 in left:
            raise ArithmeticError("unlucky")
        answers = [ValueError("below 0") if n < 0 else f"left at {number}" if n == 0 else None for n in left]
        staying = [place for place, answer in enumerate(answers) if answer is None]
        return BatchResult(answers, staying, None)


def served(*numbers):
    engine, backlog, kind = Countdown(), Backlog(100), Kind()
    worker = Worker(engine, backlog, max_batch=4, max_wait=0.0)
    requests = [Request([n], kind, last=99) for n in numbers]
    for request in requests:
        worker._backlog.put(request, block=True)
    worker.start()
    worker.close()
    assert not engine.inside
    return [request.future for request in requests], worker


def test_requests_of_any_engine_are_answered_each_with_its_own():
    futures, _ = served(3, 0, 7, 1, 3)
    assert [future.result(0) for future in futures] == [f"left at {n}" for n in (3, 0, 7, 1, 3)]


def test_an_engine_answers_with_an_error_or_raises_for_one_alone():
    futures, _ = served(2, -1, 13, 1)
    assert [futures[0].result(0), futures[3].result(0)] == ["left at 2", "left at 1"]
    assert isinstance(futures[1].exception(0), ValueError)
    assert isinstance(futures[2].exception(0), ArithmeticError)


def test_a_closed_queue_says_so_by_an_error_of_its_own():
    _, worker = served()
    with pytest.raises(Closed):
        worker.put(Request([1], Kind(), last=99), block=False)


def test_the_queue_imports_python_alone():
    for file in Path(queueing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, f"{file.name} leaves its folder"
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names, file.name


def test_a_step_that_took_long_once_is_expected_to_be_quick_again_after_a_minute():
    now = 1000.0
    pace = Pace([10, 30], clock=lambda: now)
    pace.note(0, 4, 0.01)
    assert pace.expect(1, 4) == pytest.approx(1.2 * 0.01 * 20 / 10)  # by its operations
    pace.note(1, 4, 5.0)  # the machine stood still
    assert pace.expect(1, 4) == pace.expect(1, 2) == pytest.approx(1.2 * 5.0)
    assert pace.expect(1, 6) == pytest.approx(1.2 * 5.0 * 6 / 4)
    now += 59  # it has not run since, as it does not fit into any deadline
    pace.note(0, 4, 0.02)
    assert pace.expect(1, 4) == pytest.approx(1.2 * 5.0)
    now += 2
    assert pace.expect(1, 4) == pytest.approx(1.2 * 0.02 * 20 / 10)
    pace.note(1, 4, 0.03)  # what was forgotten does not count any more
    assert pace.expect(1, 4) == pytest.approx(1.2 * 0.03)
