import json
import re

import pytest

from offramp.analysis.toys._plot import draw
from offramp.analysis.toys.descent import descend
from offramp.analysis.toys.problems import CoupledProblem, Landscape
from offramp.analysis.toys.report import table, write
from offramp.errors import UserError


@pytest.fixture(scope="module", params=["a", "b"])
def descent(request):
    return descend({"a": Landscape("nash-mtl"), "b": CoupledProblem()}[request.param], steps=8)


def test_the_picture_names_every_method(descent, tmp_path):
    svg = draw(descent, tmp_path / "picture.svg").read_text()
    texts = re.findall(r"<text[^>]*>([^<]+)<", svg)
    for name in descent.methods:
        assert name in texts
    assert ("best for both" in texts) == (descent.problem.name == "b")


def test_passes_stand_beside_the_steps(descent, drawn, texts, tmp_path):
    draw(descent, tmp_path / "picture.png")
    (figure,) = drawn
    words = texts(figure)
    assert len(figure.axes) == {"a": 2, "b": 3}[descent.problem.name]
    if descent.problem.name == "a":
        assert words.count("24") == 1  # dr-mgf's, for 8 steps
        assert words.count("8") >= len(descent.methods) - 1
        rows = [label.get_text() for label in figure.axes[1].get_yticklabels()]
        distances = dict(zip(descent.methods, descent.distances().sum(1).tolist(), strict=True))
        assert rows == sorted(rows, key=distances.get)
    else:
        assert "dr-mgf\n(3 passes a step)" in words
        (line,) = [one for one in figure.axes[2].lines if "dr-mgf" in one.get_label()]
        assert line.get_xdata()[-1] == 24


def test_files_hold_the_whole_descent(descent, tmp_path):
    numbers, picture = write(descent, tmp_path / "new" / "folder")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    found = json.loads(numbers.read_text())
    assert len(found["trajectories"]) == len(descent.methods) * len(descent.starts)
    last = found["trajectories"][-1]
    assert last["method"] == "dr-mgf"
    assert last["way"]["points"] == descent.points[:, -1, -1].tolist()
    assert last["way"]["losses"][-1] == last["losses"]
    assert len(last["way"]["points"]) == len(found["recorded"])


def test_the_table_has_a_row_for_each_method(descent):
    text = table(descent)
    for name in descent.methods:
        assert re.search(rf"^{name} ", text, flags=re.MULTILINE)


def test_a_file_in_the_folder_s_place(descent, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*: File exists; give another folder"):
        write(descent, tmp_path / "file")
