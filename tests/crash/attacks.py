"""What befalls a run: each attack returns None if the run survives it, else what went wrong."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable

from tests.crash.comparing import difference
from tests.crash.stage import Missed, Stage

__all__ = ["ATTACKS"]

SIGNALS = {
    "SIGKILL": (signal.SIGKILL, os.kill),
    "SIGTERM": (signal.SIGTERM, os.kill),
    "SIGTERM to all": (signal.SIGTERM, os.killpg),
    "SIGINT": (signal.SIGINT, os.kill),
}


def killed(name: str) -> Callable[[Stage], str | None]:
    """The attack by a signal, once or twice in a run; one in eight comes as a new interpreter starts."""
    signum, send = SIGNALS[name]

    def attack(stage: Stage) -> str | None:
        run = stage.new()
        early = stage.draw.random() < 1 / 8
        for _ in range(stage.draw.choice([1, 1, 2])):
            process = stage.train(run, fresh=early)
            if early:
                time.sleep(stage.draw.uniform(0, stage.starting))
            else:
                stage.await_moment(process, run)
            send(process.pid, signum)
            ended = process.ended()
            if ended.code == 0:
                raise Missed
            if not ended.clean or ended.code not in (-signum, 128 + signum):
                return str(ended)
        return stage.wrong_at_the_end(run)

    return attack


def full_disk(stage: Stage) -> str | None:
    """From a moment on no file may grow beyond a size that is below that of some file of the run."""
    run = stage.new()
    process = stage.train(run)
    stage.await_moment(process, run)
    sizes = [path.stat().st_size for path in sorted(stage.reference.rglob("*")) if path.is_file()]
    limit = max(2000, int(stage.draw.choice(sizes) * stage.draw.random()))  # stderr goes to a file, too
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    ended = process.ended()
    if ended.code == 0:
        raise Missed
    return stage.wrong_at_the_end(run) if ended.code == 2 and ended.clean else str(ended)


def flipped_bit(stage: Stage) -> str | None:
    """One bit of one file of a stopped run is another; going on is refused, or makes no difference."""
    run = stage.new()
    shutil.copytree(stage.stopped(), run)
    path = stage.draw.choice([p for p in sorted(run.rglob("*")) if p.is_file() and p.stat().st_size])
    content = bytearray(path.read_bytes())
    content[stage.draw.randrange(len(content))] ^= 1 << stage.draw.randrange(8)
    path.write_bytes(content)
    ended = stage.train(run).ended()
    if ended.code == 2 and ended.clean:
        return None
    wrong = str(ended) if ended.code else difference(run, stage.reference)
    return wrong and f"{path.relative_to(run)}: {wrong}"


def two_at_once(stage: Stage) -> str | None:
    """Two trainings, of one seed or of two, begin in one folder; one of them has it, and it alone."""
    run = stage.new()
    orders = [(), stage.draw.choice([(), ("--seed", "1")])]
    different = orders[0] != orders[1]
    stage.draw.shuffle(orders)
    processes = []
    for more in orders:
        processes.append(stage.train(run, *more))
        time.sleep(
            stage.draw.choice([0.0, stage.draw.uniform(0, 0.1), stage.draw.uniform(0, stage.training)])
        )
    ends = [process.ended() for process in processes]
    for ended in ends:
        if ended.code not in (0, 2) or not ended.clean:
            return str(ended)
    won = [more for more, ended in zip(orders, ends, strict=True) if ended.code == 0]
    if not won or (different and len(won) > 1):
        return f"{len(won)} of two different trainings ended well in one folder"
    return difference(run, stage.of_seed_1() if won[0] else stage.reference)


# name -> the attack, and how many of it there are for a kill of each signal
ATTACKS: dict[str, tuple[Callable[[Stage], str | None], float]] = {
    **{name: (killed(name), 1.0) for name in SIGNALS},
    "full disk": (full_disk, 0.5),
    "flipped bit": (flipped_bit, 1.0),
    "two at once": (two_at_once, 0.5),
}
