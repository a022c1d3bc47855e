"""``python -m tests.runtime.fuzz_bundles``: spoil a bundle, and see that what is wrong is told in one line.

Each input is a whole bundle of which one or two things are spoilt: bytes of a file, values of its JSON, lines
of its checksums, or what lies in the folder. Some have right checksums afterwards, as a forger would write.
Loading must end in a ``BundleError``, or in a model that answers or refuses its input in one line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import offramp_runtime
from offramp_runtime import BundleError, InputError
from tiny_bundles import SIZE, ImageNet, write_bundle, write_sums

JSON = ("manifest.json", "policy.json")
LONGEST = 2000  # characters of a line
SECONDS = 20.0  # a thousand times what an input takes
JUNK = [None, True, False, 0, -1, 1, 2, 7, 0.5, 1e308, -1e-300, 10**19, 10**400, "", "0", "\ud800", "a\nb",
        "é", "../weights.bin", "/etc/passwd", "weights.bin", "model.onnx", "stage1.onnx", "images", "float32",
        "uint8", "RGBA", [], [[]], [None], [0.5] * 4, [1, 2, 3], {}, {"exit": 1}, "A" * 5000,
        [0] * 5000]  # fmt: skip


def fuzz(inputs: int, seed: int) -> Counter[str]:
    """Try so many inputs; what came of them, by kind.

    Raises:
        AssertionError: One was neither refused in one line nor answered by.
    """
    draw, outcomes = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        whole = write_bundle(Path(place) / "whole", ImageNet())
        for number in range(inputs):
            bundle = Path(place) / "spoilt"
            shutil.copytree(whole, bundle)
            kinds = draw.choices(KINDS, k=draw.choice([1, 1, 2]))
            for kind in kinds:
                kind(draw, bundle)
            if draw.random() < 0.6:
                _sum_again(bundle)
            names = "+".join(kind.__name__ for kind in kinds)
            outcomes[_outcome(bundle, f"input {number} of seed {seed}, {names}")] += 1
            shutil.rmtree(bundle)
    return outcomes


def _outcome(bundle: Path, name: str) -> str:
    began = time.monotonic()
    try:
        model = offramp_runtime.load(bundle, threads=1)
        model.predict(np.zeros((2, 3, SIZE, SIZE), np.uint8))
        model.walk(np.zeros((3, SIZE, SIZE), np.uint8))
    except (BundleError, InputError) as error:
        line = str(error)
        assert line, name
        assert line.isprintable(), (name, line)
        assert len(line) <= LONGEST, (name, line)
        return type(error).__name__
    except Exception as error:
        raise AssertionError(name) from error
    finally:
        assert time.monotonic() - began < SECONDS, name
    return "answered"


def _bytes(draw: random.Random, bundle: Path) -> None:
    """Spoil bytes of a file."""
    path = bundle / draw.choice(sorted(os.listdir(bundle)))
    if path.is_file() and not path.is_symlink():
        path.write_bytes(mutated(draw, path.read_bytes()))


def _text(draw: random.Random, bundle: Path) -> None:
    """Spoil bytes of a JSON file."""
    path = bundle / draw.choice(JSON)
    if path.is_file():
        path.write_bytes(mutated(draw, path.read_bytes()))


def _value(draw: random.Random, bundle: Path) -> None:
    """Put junk in place of a value of a JSON file, or take it out, or put another in."""
    path = bundle / draw.choice(JSON)
    if not path.is_file():
        return
    try:
        document = json.loads(path.read_bytes())
    except (RecursionError, ValueError):
        return
    inside = document
    while isinstance(inside, (dict, list)) and inside:
        key: Any = draw.choice([*inside] if isinstance(inside, dict) else range(len(inside)))
        if draw.random() < 0.4 or not isinstance(inside[key], (dict, list)):
            break
        inside = inside[key]
    if not isinstance(inside, (dict, list)) or not inside:
        return
    what = draw.random()
    if what < 0.15:
        del inside[key]
    elif what < 0.3 and isinstance(inside, list):
        inside.insert(key, draw.choice([*inside, draw.choice(JUNK)]))
    else:
        inside[key] = draw.choice(JUNK)
    path.write_text(json.dumps(document))


def _sums(draw: random.Random, bundle: Path) -> None:
    """Spoil, drop, double or swap lines of the checksums."""
    path = bundle / "SHA256SUMS"
    if not path.is_file():
        return
    lines = path.read_bytes().split(b"\n")
    row, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    what = draw.randrange(4)
    if what == 0:
        del lines[row]
    elif what == 1:
        lines.insert(row, lines[other])
    elif what == 2:
        lines[row], lines[other] = lines[row][:66] + lines[other][66:], lines[other][:66] + lines[row][66:]
    else:
        lines[row] = mutated(draw, lines[row])
    path.write_bytes(b"\n".join(lines))


def _files(draw: random.Random, bundle: Path) -> None:
    """Take a file away, add one, exchange two, or put something else in its place."""
    path, other = (bundle / name for name in draw.choices(sorted(os.listdir(bundle)), k=2))
    if not path.is_file() or not other.is_file():
        return
    what = draw.randrange(6)
    if what == 0:
        name = draw.choice(["more.bin", ".hidden", "e\nx", "stage4.onnx", "model.onnx "])
        (bundle / name).write_bytes(path.read_bytes())  # it may be there, as an earlier change's
        return
    content = path.read_bytes()
    path.unlink()
    if what == 1:
        path.mkdir()
    elif what == 2:
        path.symlink_to(draw.choice([other.name, "/etc/passwd", "..", path.name]))
    elif what == 3:
        os.mkfifo(path)
    elif what == 4:
        path.write_bytes(other.read_bytes() if other.exists() else b"")
        other.write_bytes(content)


def mutated(draw: random.Random, content: bytes) -> bytes:
    """Bytes of which some are changed, cut, doubled or moved."""
    if not content:
        return b"\0"
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3, 10])):
        start = draw.randrange(len(changed) + 1)
        end = min(len(changed), start + draw.choice([1, 1, 4, 50]))
        piece = changed[start:end]
        what = draw.randrange(4)
        if what == 0:
            changed[start:end] = draw.randbytes(len(piece))
        elif what == 1:
            del changed[start:end]
        elif what == 2:
            changed[start:start] = piece * draw.choice([1, 2, 100])
        elif start < len(changed):
            changed[start] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _sum_again(bundle: Path) -> None:
    """Write right checksums, where all is files."""
    if all(path.is_file() and not path.is_symlink() for path in bundle.iterdir()):
        write_sums(bundle)


KINDS: list[Callable[[random.Random, Path], None]] = [_bytes, _text, _value, _value, _value, _sums, _files]


def main() -> None:
    """Try as many inputs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(dict(fuzz(given.inputs, given.seed)))


if __name__ == "__main__":
    main()
