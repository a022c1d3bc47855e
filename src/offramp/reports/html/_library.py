"""Vega-Lite, which draws the charts in the reader's browser: its code, packed into every page."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.util import find_spec

from offramp.errors import UserError

__all__ = ["check_packages", "drawing_code"]

PACKED = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"


def check_packages() -> None:
    """Check that what a page takes is installed, before anything is computed for one.

    Raises:
        UserError: It is not.
    """
    for name in ("vl_convert", "jinja2"):
        if find_spec(name) is None:
            raise UserError(f"a report needs {name}: pip install 'offramp[report]'")


@cache
def drawing_code() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, about 900 kB.

    A process of its own packs it: for that a JavaScript engine runs, whose 140 MB a training shall not carry.

    Raises:
        UserError: It is not installed, or the process failed.
    """
    check_packages()
    done = subprocess.run([sys.executable, "-c", PACKED], capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(f"vl_convert could not pack the charts' code ({last[0]}); install it anew")
    return done.stdout.decode().replace("</script", "<\\/script")
