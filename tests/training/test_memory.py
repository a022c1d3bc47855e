import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from offramp.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB, beyond what the allocator would keep by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
before = faults()
assert keep_freed_memory()
print(before, min(faults() for _ in range(8)))  # the first ones may just miss a block that fits
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc's allocator")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before >= 32  # one fault per page, of 2 MiB at most
    assert after < before / 10


def test_other_systems_are_left_alone(monkeypatch):
    from offramp.memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
