"""The runtime never imports torch, nor offramp: it works where both cannot be imported."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import offramp_runtime
from PIL import Image
from tiny_bundles import ImageNet, WordNet, write_bundle

PROGRAM = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "offramp", "onnx", "torchvision"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
import numpy as np
import offramp_runtime

images, words, photo = sys.argv[1:]
model = offramp_runtime.load(images)
x = model.image_of(photo)
answer = model.predict(x[None])
assert answer.exit[0] == model.anytime(x[None], 1000.0).exit[0]
with model.stream() as stream:
    assert stream.submit(x).result().exit == answer.exit[0]
assert len(model.walk(x)) == answer.exit[0]
model = offramp_runtime.load(words)
sample = {"words": np.zeros((2, 4), np.int64), "weights": np.ones((2, 4), np.float32)}
assert len(model.predict(sample).exit) == 2
from offramp_runtime._command import main
assert main(["check", images]) == main(["predict", images, photo]) == 0
assert not {"torch", "offramp", "onnx"} & {name.split(".")[0] for name in sys.modules}
"""


def test_everything_works_where_torch_cannot_be_imported(tmp_path):
    Image.new("RGB", (9, 9), (200, 10, 30)).save(tmp_path / "photo.png")
    bundles = [write_bundle(tmp_path / "images", ImageNet()), write_bundle(tmp_path / "words", WordNet())]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *map(str, bundles), str(tmp_path / "photo.png")],
        capture_output=True, text=True, check=False,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


ALLOWED = {"numpy", "onnxruntime", "PIL", "starlette", "uvicorn", "h11", "offramp_runtime"}
RAY = {"ray", "pydantic"}  # of the one file that Ray Serve starts, which nothing imports


def test_no_file_of_the_runtime_imports_anything_else():
    folder = Path(offramp_runtime.__file__).parent
    files = [*folder.rglob("*.py"), *(folder / "_queueing").glob("*.py")]
    assert len(files) > 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                top = name.split(".")[0]
                allowed = ALLOWED | (RAY if file.name == "ray_serve.py" else set())
                assert top in allowed | sys.stdlib_module_names, f"{file.name} imports {name}"


def test_the_sources_carry_what_links_name():
    """A source distribution keeps links to files as links; those to folders become the files in them."""
    project = Path(offramp_runtime.__file__).parents[2]
    settings = (project / "pyproject.toml").read_text()
    links = [path for path in project.rglob("*") if path.is_symlink() and path.is_file()]
    assert len(links) == settings.count('"../') > 0
    for link in links:
        source = os.path.relpath(link.resolve(), project)
        place = link.relative_to(project)
        assert f'"{source}" = "{place}"' in settings and f'"/{place}"' in settings
