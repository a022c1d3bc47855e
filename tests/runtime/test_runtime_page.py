"""What docs/runtime.md shows runs as it stands there."""

import re
from pathlib import Path

import numpy
from PIL import Image
from tiny_bundles import SIZE, ImageNet, write_bundle

PAGE = Path(__file__).parents[2] / "docs" / "runtime.md"


def test_the_python_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "bundle", ImageNet())
    Image.new("RGB", (9, 12), (250, 20, 10)).save("photo.png")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    names = {"numpy": numpy, "paths": ["photo.png"] * 3}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["images"].shape == (3, 3, SIZE, SIZE)
    assert {*names["answer"].exit.tolist()} <= {1, 2, 3}
    assert capsys.readouterr().out
