import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from offramp.memory import keep_freed_memory
def faults(mebibytes):  # beyond what the allocator would keep by itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(mebibytes * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(64)
before = faults(64)
assert keep_freed_memory()
faults(96)  # a block is asked for with room to align it: a freed one of exactly its size may just miss
print(before, faults(64))
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
