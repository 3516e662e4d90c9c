"""Prose is plain English: no banned opening, phrase or name in docstrings, comments, strings and pages.

`python tests/test_prose.py` prints every finding, or those of the paths that are given.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "latentdd_plugin"

UNFINISHED = set()  # groups that have not been rewritten yet

UNITS = (
    "codes?|images?|bytes?|bits?|samples?|values?|rows?|lines?|files?|networks?|seeds?|steps?|calls?|pixels?|px|entr(?:y|ies)|"
    "functions?|folders?|sub-folders?|pages?|cells?|points?|places|options?|labels?|parts?|budgets?|real|times|MB|s|grids?"
)
PER = (
    "class|code|sample|image|pixel|channel|codec|distiller|method|evaluator|network|seed|step|second|run|cell|row|file|"
    "call|batch|side|format|suite|contract|process|epoch|submission|dataset"
)
PHRASES = {
    rf"\b(?:{UNITS}) an? (?:{PER})\b": "say `per class`, `per second`",
    r"(?<!there )(?<!There )\b(?:is|are|was|were) no (?!longer|more than|less|better|worse)": "say `is not a`",
    r"\bhas no match\b": "say `does not match`",
    r"\bstrangers?\b": "say `user` or `untrusted`",
    r"\b(?:nobody|somebody)\b(?!/)": "say who, or `no one`",
    r"\bshall\b": "say `must` or `should`",
    r"\bdata sets?\b": "say `dataset`",
    r"\b(?:\w*Error|RunFailed|Unsuitable|NotApplicable|TooLong|Misfit|None|empty|False|True|zero) where\b": "say `if`",
    r"\bthe road\b": "say `the pipeline`, or name the module",
    r"\bof one's own\b": "say `your own`",
    r"\bone idea a file\b": "say `one idea per file`",
}
OPENINGS = re.compile(r"(?:What|Where|Whether|How|Which|When|Who|Why)\b")
NAMES = {
    "Told", "Given", "Wanted", "Settled", "Foreign", "told", "said", "asked", "given", "wanted", "settled", "road",
    "form", "kept", "utils", "helpers", "common",
}  # fmt: skip


def group_of(path):
    """Return the package folder, `tests`, `docs` or `root` that a file belongs to."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == PACKAGE.name:
        return f"{parts[0]}/{parts[1]}" if len(parts) > 2 else parts[0]
    return parts[0] if len(parts) > 1 else "root"


def files():
    """Every Python file, template and page with prose of the project's own, by group."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for folder in (PACKAGE, ROOT / "benchmarks", ROOT / "tests"):
        found += [path for kind in ("py", "md", "in", "j2") for path in folder.rglob(f"*.{kind}")]
    groups = {}
    for path in sorted(found):
        groups.setdefault(group_of(path), []).append(path)
    return groups


FILES = files()


def docstrings(tree):
    """(line, text, node) of each docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text, node


def prose(path):
    """(line, text) of each docstring, comment and other string of a Python file, or of each line of a page."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, line
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def findings(path):
    """(line, complaint) for everything in a file that breaks a rule."""
    if path == Path(__file__):
        return
    for number, line in prose(path):
        for pattern, advice in PHRASES.items():
            if match := re.search(pattern, line):
                yield number, f"{match[0]!r}: {advice}"
    if path.suffix != ".py":
        return
    if path.stem in NAMES:
        yield 1, f"module {path.stem}: say what it holds"
    tree = ast.parse(path.read_text())
    for number, text, node in docstrings(tree):
        is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if OPENINGS.match(text) and not is_test:
            yield number, f"{text.split()[0]!r} opens a docstring: open with a verb, for a class or module with a noun"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name.strip("_") in NAMES:
            yield node.lineno, f"name {node.name}: say what it is or does"


def complaints(paths):
    return [f"{path.relative_to(ROOT)}:{number}: {complaint}" for path in paths for number, complaint in findings(path)]


@pytest.mark.parametrize("group", FILES)
def test_prose(group):
    found = complaints(FILES[group])
    if group in UNFINISHED:
        pytest.skip(f"{group} is not rewritten yet: {len(found)} findings")
    assert not found, "\n".join(found)


def test_no_group_is_excused_that_does_not_exist():
    assert set(FILES) >= UNFINISHED


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('"""What it is."""', 1),
        ('"""Return it."""\nx = "16 codes a class"', 1),
        ("# a file that is no picture", 1),
        ("# there is no picture, and it is no longer read", 0),
        ("def told(): ...", 1),
        ("class _Settled: ...", 1),
        ('"""Raise UsageError where it is absent."""', 1),
        ('"""Return the codes of a class."""', 0),
        ("x = f'{n} images a class'", 1),
    ],
)
def test_the_rules_find_what_they_are_for(text, count, tmp_path):
    (tmp_path / "one.py").write_text(text)
    assert len(list(findings(tmp_path / "one.py"))) == count


if __name__ == "__main__":
    given = [Path(word).resolve() for word in sys.argv[1:]]
    chosen = [p for group in FILES.values() for p in group if not given or any(p.is_relative_to(g) for g in given)]
    lines = complaints(chosen)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    counts = Counter(group_of(ROOT / line.partition(":")[0]) for line in lines)
    sys.stdout.write("".join(f"{count:5} {group}\n" for group, count in sorted(counts.items())))
