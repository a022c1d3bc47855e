"""The page on several tasks: its code trains a net on Parquet files in which some samples lack a target."""

from __future__ import annotations

import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "training_tasks.md"


def write_parquet(folder: Path) -> None:
    """Images whose brightness tells the class, with a class and a box each; every fifth lacks one of them."""
    import pyarrow
    from PIL import Image
    from pyarrow import parquet

    def encoded(level: int) -> dict[str, bytes]:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (level, level, level)).save(file, "PNG")
        return {"bytes": file.getvalue()}

    folder.mkdir(parents=True)
    for name, count in (("train", 64), ("test", 16)):
        columns = {
            "image": [encoded(80 * (n % 3) + n) for n in range(count)],
            "label": [None if n % 5 == 0 else n % 3 for n in range(count)],
            "box": [None if n % 5 == 1 else [0.1, 0.2, 0.5, 0.9] for n in range(count)],
        }
        parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")


def test_the_code_of_the_page_trains_a_net(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "path" / "to" / "data")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for line in code.splitlines() if line and not re.match("import|from", line)]
    assert len(lines) <= 10
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert re.search(r"^class +top-1 % ↑ +[\d.]+", said, re.MULTILINE)
    assert re.search(r"^box +IoU % ↑ +[\d.]+", said, re.MULTILINE)
    assert (tmp_path / "runs" / "cagrad" / "result.json").is_file()
