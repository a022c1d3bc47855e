import contextlib
import functools
import gc
import os
import shutil
import signal

import pytest
import torch
from filelock import FileLock
from processes import QUICK_START


@pytest.fixture(scope="session", autouse=True)
def _processes_start_quickly():
    """Processes that tests start import no torchmetrics, which a user of offramp alone has not either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", QUICK_START, prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Makes a folder by its name and what fills it: one worker does, and the others find it filled."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name, fill):
        folder = common / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                folder.mkdir()
                try:
                    fill(folder)
                except BaseException:
                    shutil.rmtree(folder)
                    raise
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def _exports_share_the_table_of_operators():
    """The table of operators that ONNX has is built once; torch builds it for each model anew."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        shared = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(shared))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep the garbage collector from going through all that was imported, again and again.

    Those objects stay to the end, and there are more of them than of all that the tests make.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        gc.enable()


def pytest_configure():
    # A shell starts background jobs with SIGINT ignored, and nohup with SIGHUP; children inherit that.
    for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)
    _let_torchvision_import_beside_a_cpu_torch()


def _let_torchvision_import_beside_a_cpu_torch():
    """Define the two operators whose schemas torchvision's CUDA build looks for when it is imported.

    Beside a CPU build of torch its compiled part does not load, and its models need none of it.
    """
    if torch.version.cuda is None:
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):  # a build of torchvision that brought them along
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
