"""Checkpoints: bytes that are damaged, and content that is readable and wrong."""

from __future__ import annotations

import contextlib
import io

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from junk import changed, changes, scalars, spoilt
from oracle import command, examples, works
from runs_to_spoil import put, renewed

from offramp import Run
from offramp.runs import checkpoint

tensors = st.one_of(
    st.builds(torch.full, st.lists(st.integers(0, 3), max_size=3).map(tuple), st.floats(width=32)),
    st.builds(
        torch.zeros,
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        dtype=st.sampled_from([torch.int64, torch.bool, torch.float64, torch.complex64]),
    ),
)


@pytest.fixture(scope="module")
def extended(tmp_path_factory, good):
    """Weights of the good run after another epoch."""
    folder = renewed(tmp_path_factory.mktemp("extended") / "run", good)
    assert command("train", "--resume", "--out", str(folder), "--epochs", "2", notes=True)
    return weights(folder)


def weights(folder):
    return safetensors.torch.load((folder / "weights.safetensors").read_bytes())


def goes_on(folder) -> bool:
    """Whether one more epoch ends well; then the run can be opened, and has finite weights."""
    if command("train", "--resume", "--out", str(folder), "--epochs", "2", notes=True) is None:
        return False
    with contextlib.redirect_stderr(io.StringIO()):
        Run.open(folder).table()
    assert all(tensor.isfinite().all() for tensor in weights(folder).values())
    return True


@pytest.mark.slow
@examples(50)
@given(data=st.data(), name=st.sampled_from(["state.pt", "state.pt", "weights.safetensors", "SHA256SUMS"]))
def test_bytes(good, folder, extended, data, name):
    """Damage is refused, or changes nothing."""
    renewed(folder, good)
    path = checkpoint.last(folder) / name
    path.write_bytes(data.draw(spoilt(path.read_bytes() if path.exists() else b"")))
    if goes_on(folder):
        found = weights(folder)
        assert all(torch.equal(found[key], tensor) for key, tensor in extended.items())


def stored(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.slow
@examples(50)
@given(data=st.data())
def test_state(good, folder, data):
    renewed(folder, good)
    path = checkpoint.last(folder) / "state.pt"
    state = torch.load(path, weights_only=True)
    made = data.draw(changes(state, st.one_of(tensors, scalars, st.just([]), st.just({}))))
    content = changed(state, made)
    try:
        put(path, stored(content))
    except (OverflowError, RuntimeError, UnicodeEncodeError):  # what cannot be written, nobody finds
        return
    goes_on(folder)


@examples(30)
@given(data=st.data(), name=st.sampled_from(["checkpoint", "run"]))
def test_weights(good, folder, data, name):
    renewed(folder, good)
    inside = checkpoint.last(folder) if name == "checkpoint" else folder
    path = inside / "weights.safetensors"
    content = safetensors.torch.load(path.read_bytes())
    key = data.draw(st.sampled_from(sorted(content)))
    what = data.draw(st.sampled_from(["other", "gone", "more", "number", "number"]))
    if what == "gone":
        del content[key]
    elif what == "more":
        content[data.draw(st.sampled_from(["x", "", "a" * 5000, "\0"]))] = torch.zeros(2)
    elif what == "number":
        tensor = content[key].clone()
        bad = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf")]))
        if tensor.is_floating_point():
            tensor.view(-1)[0] = bad
        content[key] = tensor
    else:
        content[key] = data.draw(tensors)
    try:
        put(path, safetensors.torch.save(content))
    except (ValueError, KeyError):
        return
    if name == "checkpoint":
        goes_on(folder)
    elif works(Run.open, folder) is not None:
        assert all(tensor.isfinite().all() for tensor in weights(folder).values())


@examples(10)
@given(data=st.data())
def test_names_of_folders(good, folder, data):
    """Other folders than a checkpoint's beside it, and names that mean other steps."""
    renewed(folder, good)
    last = checkpoint.last(folder)
    names = [
        "epoch-00001-step-0000009", "epoch-99999-step-0000000", "epoch-1-step-1",
        ".epoch-00009-step-0000000.new", "epoch-" + "9" * 200 + "-step-1", "x", "epoch-٣-step-٣",
        "epoch-00000-step-0000000", "epoch-²-step-1",
    ]  # fmt: skip
    name = data.draw(st.sampled_from(names))
    if data.draw(st.booleans()):
        last.rename(last.with_name(name))
    elif data.draw(st.booleans()):
        last.with_name(name).mkdir()
    else:
        last.with_name(name).touch()
    goes_on(folder)
