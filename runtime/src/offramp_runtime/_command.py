"""The command ``offramp-runtime``: check a bundle, predict by it, serve it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from offramp_runtime._errors import BundleError, InputError, one_line
from offramp_runtime._files import FileAnswer, predict_files
from offramp_runtime._model import load
from offramp_runtime._self_test import difference

__all__ = ["main", "serve_bundle"]

NAMED = 3  # files that cannot be read which the last line names


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``offramp-runtime``; by default the process's own.

    Returns:
        The exit code: 0; 2 for what is wrong with the bundle, the input or the words, told in one line; 130
        after Ctrl+C.
    """
    try:
        given = _parser().parse_args(argv)
        run: Callable[[argparse.Namespace], None] = given.run
        run(given)
        sys.stdout.flush()
    except (BundleError, InputError) as error:
        with contextlib.suppress(OSError):
            print(f"offramp-runtime: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # of a file on a full disk, say; what is read or served has errors of its own
        with contextlib.suppress(OSError):
            print(f"offramp-runtime: cannot write stdout: {error.strerror}; make room", file=sys.stderr)
        return 2
    return 0


def serve_bundle(bundle: str, **settings: Any) -> None:
    """Serve a bundle over HTTP, until SIGTERM or Ctrl+C.

    Args:
        bundle: The folder.
        settings: As of ``offramp_runtime.server.serve``.

    Raises:
        BundleError: Anything is wrong with the folder.
        InputError: A setting is out of its range, or the server's packages are not installed.
    """
    try:
        server = import_module("offramp_runtime.server")
    except ImportError as error:
        raise InputError(
            f"the server needs {error.name}, which is not installed: pip install 'offramp-runtime[server]'"
        ) from None
    server.serve(bundle, **settings)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="offramp-runtime",
        description="Run a network that offramp exported, which stops early on easy inputs.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], does: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=does, description=f"{does}.")
        added.set_defaults(run=run)
        added.add_argument("bundle", metavar="BUNDLE", help="folder that offramp export wrote")
        added.add_argument("--threads", type=int, help="threads of one operation; default: one for each core")
        return added

    command("check", _check, "check every file of a bundle, and that its graphs agree")
    predict = command("predict", _predict, "predict the class of image files, and show where they leave")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    predict.add_argument("--threshold", type=float, help="leave where the confidence reaches this")
    predict.add_argument("--json", action="store_true", help="print one JSON document")
    serve = command("serve", _serve, "serve a bundle over HTTP")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all (%(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port; 0: a free one (%(default)s)")
    serve.add_argument("--max-batch", type=int, default=64, help="samples that run together (%(default)s)")
    serve.add_argument("--max-wait", type=float, default=0.02, metavar="SECONDS",
                       help="longest wait for others to fill a batch, under load (%(default)s)")  # fmt: skip
    serve.add_argument("--capacity", type=int, default=1024,
                       help="requests that may wait; further ones get status 429 (%(default)s)")  # fmt: skip
    return parser


def _check(given: argparse.Namespace) -> None:
    model = load(given.bundle, threads=given.threads)
    reads = ", ".join(
        f"{each.name} {each.dtype} [{', '.join('any' if n is None else str(n) for n in each.shape)}]"
        for each in model.inputs
    )
    print(f"{given.bundle}: {model.net}, {model.precision}; every file is as it was written")
    print(f"reads {reads}; tells {len(model.classes)} classes apart; samples leave by {model.confidence}")
    for exit in model.exits:
        print(f"exit {exit.exit}: {'unknown' if exit.cost is None else exit.cost} operations")
    try:
        print(f"all graphs say the same about random samples, to {difference(model, model.stages()):.1g}")
    except InputError as error:
        if all(None not in each.shape for each in model.inputs):
            raise
        print(f"the graphs were not run: {error}")  # what lengths and numbers such inputs have is not known


def _predict(given: argparse.Namespace) -> None:
    model = load(given.bundle, threads=given.threads)
    found: list[FileAnswer] = []
    unread: list[InputError] = []
    for answer in predict_files(model, given.images, given.threshold):
        unread.append(answer) if isinstance(answer, InputError) else found.append(answer)
    if given.json:
        fields = ("image", "class", "confidence", "exit", "cost")
        document = {
            "bundle": given.bundle,
            "confidence": model.confidence,
            "predictions": [dict(zip(fields, each, strict=True)) for each in found],
            "unread": [*map(str, unread)],
        }
        print(json.dumps(document, indent=2))
    else:
        rows = [(_printable(a.file), _printable(a.label), f"{a.confidence:.4f}", str(a.exit)) for a in found]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if unread:
        sys.stdout.flush()
        named = "; ".join(map(str, unread[:NAMED])) + ("; ..." if len(unread) > NAMED else "")
        count = (
            f"{len(unread)} of {len(given.images)} images cannot be read: " if len(given.images) > 1 else ""
        )
        raise InputError(f"{count}{named}")


def _serve(given: argparse.Namespace) -> None:
    settings = {name: value for name, value in vars(given).items() if name not in ("run", "bundle")}
    serve_bundle(given.bundle, **settings)


def _printable(text: str) -> str:
    """A name in letters that stdout has, and in one line."""
    encoding = sys.stdout.encoding or "utf-8"
    return one_line(text.encode(encoding, errors="backslashreplace").decode(encoding))
