"""Several processes of a test's own, started by torchrun."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
QUICK_START = str(TESTS / "quick_start")  # on the path of processes that tests start
PATIENCE = 240  # seconds, for a machine that is busy with other tests


def run_in_processes(job: Path, out: Path, count: int = 2) -> str:
    """Run ``job OUT`` in several processes, which import the tests' helpers too; what they said on stderr."""
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    done = subprocess.run(
        [*launcher, job, out],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr
