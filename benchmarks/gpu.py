"""Check every method on an accelerator against the CPU, then measure there: one command, 8 minutes at most.

Each part is a process of its own with a result file of its own, NAME.json, which is there as soon as the
part is done. A part that fails or runs out of time leaves NAME.failed.json with the error and what it had
found, and the others go on. What is there is not run again.

    python benchmarks/gpu.py                                # or: make gpu
    python benchmarks/gpu.py --device cpu                   # the same, small: make gpu DEVICE=cpu
    python benchmarks/gpu.py --only fp32 step --again
    python benchmarks/gpu.py --table benchmarks/gpu/h100    # the results in a folder, as Markdown

Exit code 0: all parts are there and passed; 1: not all; 2: nothing was run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _gpu.parts import Part, parts
from _gpu.tables import tables

HERE = Path(__file__).parent
SHOWN = 12  # lines of a failed part's output


class Session:
    """Runs parts and keeps what they find.

    Args:
        folder: Where results and outputs go.
        device: ``"cuda"`` or ``"cpu"``.
        deadline: When all must be done, in the seconds of ``time.monotonic``.
        threads: Of each part's process.
    """

    def __init__(self, folder: Path, device: str, deadline: float, threads: int) -> None:
        self.folder, self.device, self.deadline, self.threads = folder, device, deadline, threads
        folder.mkdir(parents=True, exist_ok=True)

    def there(self, part: Part) -> bool:
        """Whether a part is done and passed."""
        return (self.folder / f"{part.name}.json").exists()

    def run(self, part: Part) -> bool:
        """Run a part; whether it passed."""
        result, failed, draft = (
            self.folder / f"{part.name}{end}" for end in (".json", ".failed.json", ".partial.json")
        )
        for old in (result, failed, draft):
            old.unlink(missing_ok=True)
        command = [sys.executable, *part.words, "--device", self.device, "--out", str(draft.resolve())]
        command[1] = str(HERE / command[1])
        began = time.monotonic()
        log = self.folder / f"{part.name}.log"
        error = self._process(command, min(part.seconds, self.deadline - began), log)
        seconds = time.monotonic() - began
        if error is None and not draft.exists():
            error = "it wrote no result"
        if error is None:
            draft.replace(result)
            print(f"{part.name:16} passed in {seconds:.0f} s", flush=True)
            return True
        partial = json.loads(draft.read_text()) if draft.exists() else None
        draft.unlink(missing_ok=True)
        record = {
            "command": [*part.words, "--device", self.device],
            "error": error,
            "seconds": seconds,
            "partial": partial,
        }
        failed.write_text(json.dumps(record, indent=1) + "\n")
        print(f"{part.name:16} FAILED: {error}; the end of {log}:", flush=True)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        wrong = [line for line in lines if line.endswith("FAILED")] or lines
        print("\n".join(f"    {line[:300]}" for line in wrong[-SHOWN:]), flush=True)
        return False

    def _process(self, command: Sequence[str], seconds: float, log: Path) -> str | None:
        """Run a command for so long at most; what went wrong, or None."""
        if seconds <= 0:
            return "not run: the time was used up before"
        path = os.pathsep.join(filter(None, (str(HERE.parent / "src"), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(self.threads)}
        with open(log, "w") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                return f"ran out of its {seconds:.0f} s"
            finally:
                with contextlib.suppress(ProcessLookupError):  # with the processes that it started
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return None if code == 0 else f"exit code {code}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in parts(small=False)]
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--only", nargs="+", choices=["checks", "measurements", *names], help="only these parts"
    )
    parser.add_argument("--again", action="store_true", help="run also what is there")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--jobs", type=int, default=min(6, os.cpu_count() or 1), help="checks side by side")
    parser.add_argument("--out", type=Path, help="folder of the results; by default runs/gpu/DEVICE")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="print the results there, run nothing")
    args = parser.parse_args()
    if args.table:
        print(tables(args.table), end="")
        return 0
    if args.device == "cuda" and not _has_cuda():
        print("no CUDA device here; --device cpu (make gpu DEVICE=cpu) runs the same small", file=sys.stderr)
        return 2
    deadline = time.monotonic() + 60 * args.minutes
    jobs = max(1, args.jobs)
    folder = args.out or HERE.parent / "runs" / "gpu" / args.device
    session = Session(folder, args.device, deadline, max(1, (os.cpu_count() or 1) // jobs))
    wanted = [part for part in parts(small=args.device == "cpu") if _chosen(part, args.only)]
    todo = [part for part in wanted if args.again or not session.there(part)]
    for part in wanted:
        if part not in todo:
            print(f"{part.name:16} is there already; --again runs it anew")
    with ThreadPoolExecutor(jobs) as pool:
        passed = list(pool.map(session.run, [part for part in todo if part.check]))
    passed += [session.run(part) for part in todo if not part.check]
    print(f"\n{sum(passed)} of {len(todo)} parts passed; results in {folder}\n")
    print(tables(folder), end="")
    return 0 if all(passed) else 1


def _chosen(part: Part, only: Sequence[str] | None) -> bool:
    return not only or part.name in only or ("checks" if part.check else "measurements") in only


def _has_cuda() -> bool:
    import torch  # late: what only prints tables needs none

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
