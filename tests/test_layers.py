"""Imports point one way: a module uses only what stands to its left."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "latentdd_plugin"
NAME = PACKAGE.name

# Left to right. Folders of one group stand side by side and never use each other.
ORDER = [
    ("core",),
    ("data", "nn", "codecs"),
    ("latent",),
    ("distillers",),
    ("artifacts",),
    ("evaluators",),
    ("results",),
    ("experiments",),
    ("testing", "leaderboard"),
    ("cli",),
]
RANK = {part: rank for rank, group in enumerate(ORDER) for part in group}
ROOT_FILES = {"__init__.py", "__main__.py", "py.typed"}
SHARED = {
    "codecs": {"colour", "base", "diffusers", "hub", "weight_files", "weight_loading"},
    "distillers": {
        *("base", "task", "services", "embedding", "loop", "gradients", "experts", "selection"),
        *("siamese", "trajectories", "work"),
    },
}  # what files of these folders may import of their own

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Every (line, dotted module, name or None) that a file imports, anywhere in it; relative ones made absolute."""
    here = (NAME, *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, module, alias.name) for alias in node.names)


def own_imports(path):
    """(line, path inside the package as a tuple) of each import of the package's own parts."""
    for line, module, name in imports(path):
        parts = module.split(".")
        if parts[0] != NAME:
            continue
        inside = tuple(parts[1:])
        folder = PACKAGE.joinpath(*inside)
        if name and folder.is_dir() and ((folder / f"{name}.py").exists() or (folder / name).is_dir()):
            inside = (*inside, name)
        if inside:
            yield line, inside


def module_of(path):
    """Return a file's dotted place inside the package, as a tuple."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def part_of(path):
    """Return the folder that contains a file; None for the files at the package's root."""
    first = path.relative_to(PACKAGE).parts[0]
    return None if first in ROOT_FILES else first


def test_the_root_holds_thirteen_folders_and_nothing_else():
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found - ROOT_FILES == set(RANK)
    assert len(RANK) == 13


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_to_the_left(path):
    part = part_of(path)
    if part is None:
        return
    for line, inside in own_imports(path):
        where, target = f"{path.name}:{line} imports {'.'.join(inside)}", inside[0]
        assert target == part or RANK[target] < RANK[part], f"{where}, which does not stand to the left of {part}"


def test_no_two_modules_import_each_other():
    graph = {module_of(path): set() for path in MODULES}
    for path in MODULES:
        for _, inside in own_imports(path):
            target = next((t for t in (inside, inside[:-1]) if t in graph), None)
            if target not in (None, module_of(path)):
                graph[module_of(path)].add(target)
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(".".join(module) for module in error.args[1]))


@pytest.mark.parametrize("folder", SHARED)
def test_plug_ins_of_a_folder_never_import_each_other(folder):
    for path in sorted((PACKAGE / folder).glob("*.py")):
        for line, inside in own_imports(path):
            if inside[0] == folder and len(inside) > 1 and inside[1] != path.stem:
                assert inside[1] in SHARED[folder], f"{folder}/{path.name}:{line} imports {'.'.join(inside)}"


def users_of(package):
    """Return the files that import a third-party package."""
    found = {path for path in MODULES for _, module, _ in imports(path) if module.split(".")[0] == package}
    return sorted(str(path.relative_to(PACKAGE)) for path in found)


def test_one_file_knows_entry_points():
    assert len(users_of("entrypoints")) <= 1, users_of("entrypoints")


def test_only_codecs_know_diffusers():
    assert all(user.startswith("codecs/") for user in users_of("diffusers")), users_of("diffusers")


@pytest.mark.parametrize("package", ["hydra", "omegaconf"])
def test_only_the_command_line_knows_hydra(package):
    assert all(user.startswith("cli/") for user in users_of(package)), users_of(package)


def test_the_architecture_page_shows_these_folders_in_this_order():
    text = (PACKAGE.parent / "docs" / "decisions" / "architecture.md").read_text()
    table = re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)
    assert table == [part for group in ORDER for part in group]
    drawn = re.search(r"```text\n(core\n.*?)```", text, re.DOTALL)[1]
    assert [line.split() for line in drawn.splitlines()] == [list(group) for group in ORDER]
