"""Steps that run out of memory: micro-batches until they fit, or one line; nothing of an attempt remains."""

from __future__ import annotations

import errno
import itertools
import os
import re
import subprocess
import sys

import pytest
import torch
from short_of_memory import ERRORS, Limit, Narrow
from test_every_method import Killed
from tiny_runs import Tripwire, rows, tiny_data, tiny_net

from offramp import Recipe, Run, UserError, fit
from offramp.data import Batch
from offramp.data.smaller_batches import SmallerBatches
from offramp.exits import ExitLogits
from offramp.out_of_memory import ran_out_of_memory
from offramp.runs import checkpoint

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="crop-flip", checkpoint_every=2)


def limited(*arguments, norm=True, dropout=0.3, **keywords):
    net = tiny_net(norm=norm, dropout=dropout)
    net.stages[1].append(Limit(*arguments, **keywords))
    return net


def assert_equal(one, other):
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


SHORT = RECIPE.replace(epochs=1, train_limit=24, test_limit=8)
CASES = [
    *itertools.product(["joint", "nash-mtl", "kd+cagrad"], [False, True]),
    *((name, True) for name in ("dfs", "graddrop", "uncertainty", "bdl-2")),
]


@pytest.mark.parametrize(("name", "backward"), CASES)
def test_a_run_is_that_of_the_number_it_settles_at(name, backward, capsys):
    """To the bit, with batch norm and dropout: of the attempts with 8 and 4 samples nothing remains."""
    nets = [limited(2, backward=backward) for _ in range(2)]
    expected = fit(nets[0], tiny_data(), name, SHORT.replace(accumulate=4), quiet=True)
    capsys.readouterr()
    found = fit(nets[1], tiny_data(), name, SHORT.replace(accumulate="auto"), quiet=True)
    assert_equal(found.net, expected.net)
    assert found.result.outputs == expected.result.outputs
    assert nets[0].stages[1][-1].counter == nets[1].stages[1][-1].counter > 4
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"out of memory with {n} samples at a time: batches are cut into {count} parts from here on"
        for n, count in ((8, 2), (4, 4))
    ]
    assert found.result.micro_batches == 4
    assert expected.result.micro_batches is None


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["joint", "kd+pcgrad"])
def test_it_goes_on_in_the_middle_of_a_run(name, error):
    """Steps do not depend on how their batches are cut, up to rounding, without batch norm and dropout."""
    runs = []
    for begin in (10**6, 2):
        net = limited(2, error, backward=True, begin=begin, norm=False, dropout=0.0)
        runs.append(fit(net, tiny_data(), name, SHORT.replace(accumulate="auto"), quiet=True))
    assert [run.result.micro_batches for run in runs] == [1, 4]
    for key, expected in runs[0].net.state_dict().items():
        torch.testing.assert_close(runs[1].net.state_dict()[key], expected, rtol=1e-4, atol=1e-5)


def test_it_resumes_with_the_number_that_it_had(tmp_path, capsys):
    """Killed behind the step that ran out: the rest is to the bit what an undisturbed run does."""

    def killed():
        raise Killed

    recipe = RECIPE.replace(accumulate="auto")
    whole = fit(limited(2, begin=6), tiny_data(), "joint", recipe, tmp_path / "whole", quiet=True)
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = 8, killed
    with pytest.raises(Killed):
        fit(limited(2, begin=6), data, "joint", recipe, tmp_path / "cut", quiet=True)
    state = torch.load(checkpoint.last(tmp_path / "cut") / "state.pt", weights_only=True)
    assert state["loop"][0]["micro_batches"] == 4
    capsys.readouterr()
    cut = fit(limited(2), tiny_data(), "joint", None, tmp_path / "cut", resume=True, quiet=True)
    assert "out of memory" not in capsys.readouterr().err
    assert_equal(cut.net, whole.net)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert cut.result == whole.result
    assert Run.open(tmp_path / "cut", limited(2)).result.micro_batches == 4


@pytest.mark.parametrize("name", ["byot", "dr-mgf"])
def test_auto_is_refused_where_a_number_is(name):
    with pytest.raises(UserError, match=r"^accumulate=auto cuts .* leave accumulate out$"):
        fit(tiny_net(), tiny_data(), name, RECIPE.replace(accumulate="auto"), quiet=True)


@pytest.mark.parametrize("value", ["Auto", "", "2"])
def test_no_other_word_than_auto(value):
    with pytest.raises(UserError, match=r"^recipe: accumulate is .*, must be a whole number .*, or 'auto'$"):
        Recipe(accumulate=value)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_one_line_with_what_fitted(error, tmp_path):
    with pytest.raises(UserError) as refusal:
        fit(limited(4, error), tiny_data(), "joint", RECIPE, tmp_path / "first", quiet=True)
    assert str(refusal.value).startswith(
        "out of memory in a training step on cpu with 8 samples at a time (batch_size=8, accumulate=1, "
        "precision=fp32); no step has fitted yet; take `batch_size=4`, `accumulate='auto'`, `precision="
    )
    with pytest.raises(UserError) as refusal:
        fit(limited(4, error, begin=7), tiny_data(), "joint", RECIPE, tmp_path / "later", quiet=True)
    assert re.search(r"; the last that fitted had 8 samples and took [\d.]+ [MG]B ", str(refusal.value))
    assert re.search(r"; the last checkpoint, .*later.checkpoint.*, stands$", str(refusal.value))
    assert "\n" not in str(refusal.value)


def test_no_size_fits():
    net = limited(1)
    with pytest.raises(UserError) as refusal:
        fit(net, tiny_data(), "joint", RECIPE.replace(accumulate="auto", precision="bf16"), quiet=True)
    assert "in the first forward pass on cpu with 2 samples at a time" in str(refusal.value)
    assert "auto'" not in str(refusal.value).partition("take ")[2]
    assert "bf16'" not in str(refusal.value).partition("take ")[2]


def test_a_staged_method_says_so_too():
    with pytest.raises(
        UserError, match=r"8 samples at a time .*; take `batch_size=4`, `precision='bf16'`, a"
    ):
        fit(limited(4), tiny_data(), "meta-gf", RECIPE, quiet=True)


def test_an_evaluation_goes_on_with_fewer_samples(capsys, tmp_path):
    nets = [tiny_net(), tiny_net()]
    nets[1].stages[1].append(Narrow(3))
    whole, parts = (fit(net, tiny_data(), "joint", SHORT, quiet=True) for net in nets)
    assert parts.result.outputs == whole.result.outputs
    assert parts.evaluate().outputs == whole.evaluate().outputs
    said = capsys.readouterr().err.splitlines()
    assert "out of memory in an evaluation on cpu with 8 samples at a time; goes on with 4" in said
    assert "out of memory in an evaluation on cpu with 4 samples at a time; goes on with 2" in said
    batches = [*whole.batches("test")]
    expected, found = (ExitLogits.of(net, batches) for net in nets)
    torch.testing.assert_close(found.logits, expected.logits)
    assert found.digest == expected.digest


def test_an_evaluation_of_which_not_one_sample_fits():
    net = tiny_net()
    net.stages[1].append(Narrow(0))
    with pytest.raises(
        UserError, match=r"^out of memory in an evaluation on cpu with 1 sample at a time: take"
    ):
        ExitLogits.of(net, [(torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))])


def test_counts_over_groups_of_samples_keep_the_groups():
    seen = []
    smaller = SmallerBatches(torch.device("cpu"), together=3)

    def run(part):
        if len(part) > 4:
            raise MemoryError
        seen.append(part.inputs.tolist())
        return len(part)

    assert smaller(Batch(torch.arange(11), {}), run) == [3, 3, 3, 2]
    assert [*itertools.chain(*seen)] == [*range(11)]


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        *((error, True) for error in ERRORS),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (KeyError("out of memory"), False),
    ],
)
def test_how_used_up_memory_shows(error, ran_out):
    assert ran_out_of_memory(error) == ran_out


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_process_that_the_system_gives_no_more_memory():
    """In earnest: 0.6 GB more of address space, and a step on 256 images that takes more than that."""
    code = """
import resource, torch
from torch import nn
torch.set_num_threads(1)
from offramp import Recipe, fit
from offramp.nets import MultiExitNet
from tiny_runs import tiny_data
import lightning_fabric
torch.manual_seed(0)
stages = [nn.Sequential(nn.Upsample(64), nn.Conv2d(3, 64, 3, 1, 1), nn.ReLU()), nn.Conv2d(64, 16, 3, 2, 1)]
heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, 3)) for n in (64, 16)]
net = MultiExitNet(stages, heads, input_size=(3, 8, 8))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 6 * 10**8, size + 6 * 10**8))
recipe = Recipe(epochs=1, batch_size=256, accumulate="auto", augment="none", val_fraction=0.0)
run = fit(net, tiny_data(train=256, val=0), "joint", recipe, quiet=True)
print(run.result.micro_batches)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1
    assert "out of memory with 256 samples at a time" in done.stderr
