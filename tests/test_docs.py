"""The pages of the methods say what the code does: every method, every option, every default."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from itertools import permutations
from pathlib import Path

import pytest

import offramp
from offramp import Recipe, UserError
from offramp.data.pipelines import PIPELINES
from offramp.methods import METHODS, method
from offramp.methods.method import AXES
from offramp.nets import vgg7

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "offramp"
PAGES = ROOT / "docs" / "methods"
INDEX = PAGES / "README.md"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(PAGES.glob("*.md")),
]

MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if ":`" in path.read_text()]
PARTNERS = {
    "forks": ("ge", "dfs"),
    "objectives": ("kd",),
    "balancers": ("uncertainty",),
    "combiners": ("graddrop",),
    "loops": ("meta-gf",),
}
# the changelog names what was there once
WORDS = [path for path in (*DOCUMENTS, *sorted((ROOT / "results").rglob("*.md"))) if path.stem != "CHANGELOG"]


def table(text: str, first: str) -> list[list[str]]:
    """The cells of the rows below a header whose first cell is given."""
    _, body = text.split(f"\n| {first} |", 1)
    rows = re.findall(r"^\| (.*) \|$", body.split("\n\n")[0], flags=re.MULTILINE)
    return [re.split(r" \| ", row) for row in rows]


@pytest.mark.parametrize("name", METHODS)
def test_a_page_names_the_options_and_their_defaults(name):
    page = (PAGES / f"{name}.md").read_text()
    assert re.match(rf"# {re.escape(name)}(: .+)?\n", page)
    options = {cells[0].strip("`"): cells[1].strip("`") for cells in table(page, "option")}
    assert options == {key: str(value) for key, value in METHODS[name].options.items()}
    assert f"**Cost**: `{METHODS[name].passes}`" in page


def test_the_index_is_the_table_of_methods():
    rows = {cells[0]: cells[1:] for cells in table(INDEX.read_text(), "method")}
    assert len(rows) == len(METHODS)
    for name, row in METHODS.items():
        axes = [row.axes.get(axis, "-") for axis in AXES]
        assert rows[f"[{name}]({name}.md)"] == [*axes, ", ".join(sorted(row.needs)), str(row.passes)], name


def test_every_page_is_a_method_s():
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == set(METHODS)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_combinations_that_a_page_names(page):
    for name in re.findall(r"`([a-z0-9-]+(?:\+[a-z0-9-]+)+)`( is refused)?", page.read_text()):
        if name[1]:
            with pytest.raises(UserError):
                method(name[0])
        else:
            assert method(name[0]).name in ("+".join(p) for p in permutations(name[0].split("+")))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "joint"])
def test_a_page_says_on_which_axes_its_method_composes(name):
    if words := re.match(r"what [\[`]([a-z0-9-]+)", words_of_composing(name)):
        name = words[1]  # as that one
    words = re.split(r"[Nn]ot with", words_of_composing(name))[0]
    words = words.replace("`ge`", "forks")  # one of them
    told = {axis for axis in PARTNERS if re.search(rf"\b{axis[:-1]}s?\b|every other method", words)}
    assert told == {axis for axis, partners in PARTNERS.items() if any(compose(name, p) for p in partners)}


def words_of_composing(name: str) -> str:
    """What a page says that its method composes with, on one line."""
    (words,) = re.findall(
        r"\*\*Composes with\*\*:(.*?)\n- \*\*", (PAGES / f"{name}.md").read_text(), flags=re.DOTALL
    )
    return " ".join(words.split())


def compose(name: str, partner: str) -> bool:
    """Whether two methods compose; stages from a common start do not with what learns layers of its own."""
    try:
        method(f"{name}+{partner}")
    except UserError:
        return False
    if partner != "meta-gf" or "objective" not in METHODS[name].axes or "regime" in METHODS[name].axes:
        return True  # what trains in periods cannot be bound
    return next(method(name).bind(vgg7(num_classes=5, width=4)).parameters(), None) is None


def test_the_page_of_the_recipes_has_all_settings_and_their_defaults():
    page = (ROOT / "docs" / "recipes.md").read_text()
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in table(page, "setting")}
    assert told == {f.name: str(getattr(Recipe(), f.name)) for f in fields(Recipe)}
    for name in [*PIPELINES, *(path.stem for path in (PACKAGE / "recipes" / "published").glob("*.yaml"))]:
        assert f"`{name}`" in page


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_house_is_the_tree():
    told = [cells[0].strip("`/") for cells in table((ROOT / "CONTRIBUTING.md").read_text(), "folder")]
    assert all((PACKAGE / folder / "__init__.py").exists() for folder in told)
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    axes = {path.parent.name for path in (PACKAGE / "methods").glob("*/__init__.py")}
    assert rooms | {f"methods/{axis}" for axis in axes} <= set(told)


def test_the_code_in_the_contributing_guide_is_the_code():
    blocks = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 9
    for path, body in blocks:
        code = (ROOT / path).read_text()
        for line in filter(None, body.splitlines()):
            assert f"\n{line}" in code, f"{path}: {line}"


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("Boxes", "tasks/boxes.py", "tasks/__init__.py"),
        ("resnet18", "nets/zoo/resnet.py", "nets/zoo/__init__.py"),
        ("Uncertainty", "methods/balancers/uncertainty.py", "methods/table.py"),
        ("DivergenceDistillation", "methods/objectives/divergence.py", "methods/table.py"),
    ],
)
def test_one_file_and_one_row(name, file, row):
    """What the guide adds is imported where its row is, and nowhere else."""
    module = "offramp." + file.removesuffix(".py").replace("/", ".")
    line = re.compile(rf"^from {re.escape(module)} import .*\b{name}\b", re.MULTILINE)
    importing = [path for path in PACKAGE.rglob("*.py") if line.search(path.read_text())]
    assert importing == [PACKAGE / row]


def resolved(name: str) -> object:
    """What a dotted name stands for; a module of it is imported if need be."""
    found: object = offramp
    for part in name.split(".")[1:]:
        if not hasattr(found, part):
            import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("document", WORDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_and_paths_in_a_document_are_those_of_the_code(document):
    text = document.read_text()
    for name in re.findall(r"\bofframp(?:\.[A-Za-z_]\w*)+", text):
        resolved(name)
    for path in re.findall(r"`([a-z]\w*/[\w./-]+\.(?:py|md))`", text):
        assert (ROOT / path).exists() or (PACKAGE / path).exists(), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_refer_to_what_is_there(path):
    for name in re.findall(r":[a-z]+:`(?:[^`<]*<)?~?(offramp\.[\w.]+)>?`", path.read_text()):
        resolved(name)
