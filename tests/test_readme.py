"""What README and guides show runs as it stands there, and their commands are what the command line takes."""

from __future__ import annotations

import io
import re
import shlex
import threading
from importlib import import_module
from pathlib import Path

import httpx
import offramp_runtime
import pytest
import torch
from offramp_runtime.server import Server
from PIL import Image

import offramp
from offramp import UserError
from offramp.cli._parse import parse
from offramp.cli.main import COMMANDS, EXAMPLES
from offramp.methods import METHODS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COMMAND_LINE = ROOT / "docs" / "command_line.md"
PYTHON_PAGES = ["guide", "leaving_early", "several_tasks", "tasks"]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "results").rglob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language; every other piece between fences is prose."""
    fenced = re.split(r"^```", document.read_text(), flags=re.MULTILINE)[1::2]
    return [body for word, _, body in (block.partition("\n") for block in fenced) if word == language]


def run(document: Path, code: str, names: dict[str, object]) -> dict[str, object]:
    exec(compile(code, str(document), "exec"), names)
    return names


def sides(diff: str) -> tuple[str, str]:
    """A diff's text before and after."""
    lines = diff.splitlines()
    return tuple("\n".join(line[1:] for line in lines if line[:1] != other) for other in "+-")


def small_loader():
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4, 3, 64, 64, generator=random), torch.arange(4)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=2)


def test_the_diff_of_the_readme_puts_exits_on_a_network_and_trains_and_serves_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (diff,) = blocks(README, "diff")
    before, after = sides(diff)
    assert len([line for line in after.splitlines() if line]) <= 10
    plain = run(README, before, {"loader": small_loader()})
    assert plain["net"](torch.randn(2, 3, 64, 64)).shape == (2, 10)

    torch.manual_seed(0)
    names = run(README, after, {"loader": small_loader()})
    net = names["net"]
    assert [logits.shape for logits in net(torch.randn(2, 3, 64, 64))] == [(2, 10)] * 4
    torch.manual_seed(0)
    untrained = run(README, after, {"loader": []})["net"].state_dict()
    same = {name for name, old in untrained.items() if torch.equal(old, net.state_dict()[name])}
    assert not same & dict(net.named_parameters()).keys()  # every weight has moved

    code = blocks(README, "python")[0]
    assert len([line for line in f"{after}\n{code}".splitlines() if line]) < 20
    given = {"held_out": small_loader(), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    names = run(README, code, names | given)
    answer = names["answer"]
    assert answer.prediction.shape == answer.exit.shape == answer.cost.shape == (len(names["images"]),)
    assert answer.cost.double().mean() <= offramp.cost(net).exits[-1].flops

    server = Server(offramp_runtime.load("bundle"), port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        levels = torch.randint(256, (64, 64, 3), dtype=torch.uint8)
        file = io.BytesIO()
        Image.fromarray(levels.numpy()).save(file, "png")
        headers = {"Content-Type": "image/png"}
        told = httpx.post(
            f"{server.url}/predict", content=file.getvalue(), headers=headers, timeout=60
        ).json()
    finally:
        server.stop()
        thread.join()
    alone = names["router"]((levels.movedim(2, 0)[None] / 255 - 0.5) / 0.25)
    assert (told["class"], told["exit"]) == (str(int(alone.prediction)), int(alone.exit))


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{page}.md" for page in PYTHON_PAGES)])
def test_the_python_of_a_page(name, capsys):
    names: dict[str, object] = {}
    pieces = blocks(ROOT / name, "python")
    if name == "README.md":  # goes on from the diff, whose network takes its time; its first piece ran there
        names = run(README, "import offramp\nnet = offramp.nets.vgg7(num_classes=10, width=4)", names)
        pieces = pieces[1:]
    for block in pieces:
        run(ROOT / name, block, names)
    said = capsys.readouterr().out
    signs = {
        "docs/tasks.md": "age {'error':",
        "docs/leaving_early.md": "tensor([",
        "docs/several_tasks.md": "exit 1 class, exit 1 box, exit 2 class, exit 2 box",
    }
    assert signs.get(name, "ensemble") in said


def test_the_task_of_the_guide_has_ten_lines():
    task = blocks(ROOT / "docs" / "tasks.md", "python")[0].partition("@dataclass")[2]
    assert len([line for line in task.splitlines()[1:] if line]) <= 10


def presets() -> set[str]:
    """Rows that set options of another row, whose name theirs goes on from."""
    return {
        name
        for name, row in METHODS.items()
        for other, plain in METHODS.items()
        if name.startswith(f"{other}-") and row.axes == plain.axes
    }


def test_the_table_of_methods():
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (.+) \|$", README.read_text(), flags=re.MULTILINE)
    told = {name: (page, *rest.split(" | ")) for name, page, rest in rows}
    assert told == {
        name: (f"docs/methods/{name}.md", ", ".join(m.axes) or "-", m.summary, str(m.passes), m.paper)
        for name, m in METHODS.items()
        if name not in presets()
    }


def commands(text: str) -> list[list[str]]:
    """The words after ``offramp`` of each line that begins so."""
    lines = re.findall(r"^ *offramp (.*)", text, flags=re.MULTILINE)
    return [shlex.split(re.sub(r" {2,}\(.*", "", line), comments=True) for line in lines]


def understood(name: str, *words: str) -> object:
    return parse(kind(name), f"offramp {name}", words)


def kind(name: str) -> type:
    module, command, _ = COMMANDS[name]
    return getattr(import_module(f"offramp.cli.{module}"), command)


def test_the_commands_of_the_command_line_s_page():
    lines = commands("".join(blocks(COMMAND_LINE, "")))
    assert {name for name, *_ in lines} == set(COMMANDS)
    for words in lines:
        understood(*words)
    with pytest.raises(UserError, match="no flag --dataset"):
        understood(*("--dataset" if word == "--data" else word for word in lines[0]))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_page(page):
    for words in commands("".join(blocks(page, ""))):
        understood(*words)


def test_no_extra_installs_what_only_an_export_would_need():
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert hasattr(offramp, "export") or "onnx" not in extras


def test_the_examples_of_the_help():
    texts = [EXAMPLES, *(kind(name).EXAMPLES for name in COMMANDS)]
    lines = [words for text in texts for words in commands(text)]
    assert {name for name, *_ in lines} == set(COMMANDS)
    for words in lines:
        understood(*words)
