"""Imports point one way: a module uses only what stands to its left."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "latentdd_plugin"
NAME = PACKAGE.name

# Left to right. A part is a module or a folder; parts of one group may use each other unless they are in SEPARATE.
ORDER = [
    {"errors", "clock"},
    {"types", "entries"},
    {"cache", "form", "plugins", "randomness"},
    {"numerics"},
    {"data", "columns", "decode", "sources", "augment", "networks", "budget", "codecs"},
    {"space"},
    {"distillers"},
    {"evaluators", "protocols"},
    {
        "artifact",
        "record",
        "registry",
        "schemas",
        "report",
        "pages",
        "grid",
        "folder",
        "configure",
        "controls",
        "outcome",
        "scoring",
        "reconstruction",
    },
    {"road", "evaluation", "reference", "metrics", "robustness", "assess", "codec_training"},
    {"compare"},
    {"bridges", "testing"},
    {"cards"},
    {"leaderboard"},
    {"cli"},
]
RANK = {part: rank for rank, group in enumerate(ORDER) for part in group}
SEPARATE = {"augment", "networks", "budget", "codecs"}  # never use each other, nor the reading of data
READING = {"data", "columns", "decode", "sources"}
SHARED = {
    "codecs": {"base", "diffusers"},
    "distillers": {"base", "loop", "gradients", "experts", "selection"},
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


def part_of(path):
    """The part a file belongs to; None for the package's own `__init__`."""
    first = path.relative_to(PACKAGE).parts[0]
    return None if first == "__init__.py" else first.removesuffix(".py")


def test_every_part_has_its_place():
    found = {part_of(path) for path in MODULES} - {None, "conf"}
    assert found <= set(RANK), f"give these a place in ORDER: {sorted(found - set(RANK))}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_to_the_left(path):
    part = part_of(path)
    if part is None:
        return
    for line, inside in own_imports(path):
        where, target = f"{path.name}:{line} imports {'.'.join(inside)}", inside[0]
        assert RANK[target] <= RANK[part], f"{where}, which stands to the right of {part}"
        if target != part and part in SEPARATE:
            assert target not in SEPARATE | READING, f"{where}: {part} stands alone"


@pytest.mark.parametrize("folder", SHARED)
def test_plug_ins_of_a_folder_never_import_each_other(folder):
    for path in sorted((PACKAGE / folder).glob("*.py")):
        for line, inside in own_imports(path):
            if inside[0] == folder and len(inside) > 1 and inside[1] != path.stem:
                assert inside[1] in SHARED[folder], f"{folder}/{path.name}:{line} imports {'.'.join(inside)}"


def users_of(package):
    """Which files import a third-party package."""
    found = {path for path in MODULES for _, module, _ in imports(path) if module.split(".")[0] == package}
    return sorted(str(path.relative_to(PACKAGE)) for path in found)


@pytest.mark.parametrize("package", ["diffusers", "entrypoints"])
def test_one_file_knows_the_package(package):
    assert len(users_of(package)) <= 1, users_of(package)


@pytest.mark.parametrize("package", ["hydra", "omegaconf"])
def test_only_the_command_line_knows_hydra(package):
    assert all(user.startswith("cli/") for user in users_of(package)), users_of(package)
