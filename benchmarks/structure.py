"""Count the structure of a checkout: root modules, string-indexed records, function lengths, docstring openings.

python benchmarks/structure.py [CHECKOUT …]

A string-indexed record read is `NAME["key"]`, read and not written, or `NAME.get("key")`, whose base is a name or an
attribute of `RECORDS`, directly or through further such reads (`record["budget"]["bytes"]` counts twice). Reads inside a
function called `from_json` or `parse` do not count: they turn JSON into records. A function's lines are those from `def`
to its end without decorators and docstring.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

RECORDS = {
    "data", "record", "entry", "row", "claim", "header", "card", "cell", "budget", "spent", "cost", "summary", "stats",
    "gain", "gained", "accuracy", "quality", "speed", "values", "check", "theirs", "claimed", "found", "kept", "whole",
    "control", "controls", "dataset", "codec", "protocol", "evaluation", "submission", "verification", "algo", "model",
    "stored", "made", "result",
}  # fmt: skip
FOLDERS = ("results", "experiments", "leaderboard", "testing", "cli", "artifacts", "evaluators")
READERS = {"from_json", "parse"}
OPENINGS = re.compile(r"(What|Where|Whether|How|Which)\b")
LONGEST = 45


def base_of(node: ast.expr) -> str | None:
    """Return the last name of what is indexed: `x` of `a.x`, and of `a.x["key"]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def is_read(node: ast.AST) -> bool:
    """Return True for a read of a record by a constant text."""
    if isinstance(node, ast.Subscript):
        key, indexed = node.slice, node.value
        return _is_text(key) and isinstance(node.ctx, ast.Load) and base_of(indexed) in RECORDS
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        return bool(node.args) and _is_text(node.args[0]) and base_of(node.func.value) in RECORDS
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def reads(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every read outside the functions that read JSON."""
    if isinstance(node, ast.FunctionDef) and node.name in READERS:
        return
    if is_read(node):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from reads(child)


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without decorators and docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def count(checkout: Path) -> dict[str, object]:
    """Return every figure of a checkout."""
    package = checkout / "latentdd_plugin"
    files = sorted(package.rglob("*.py"))
    lengths: list[int] = []
    openings, where = 0, Counter[str]()
    for path in files:
        tree = ast.parse(path.read_text())
        place = path.relative_to(package)
        counted = place.parts[0] in FOLDERS or len(place.parts) == 1 or place.parts[0] in ("record", "compare", "cards")
        where[place.parts[0]] += sum(1 for _ in reads(tree)) if counted else 0
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append(lines_of(node))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                openings += bool(OPENINGS.match(ast.get_docstring(node) or ""))
    percentiles = statistics.quantiles(lengths, n=20)
    return {
        "modules at the package root": sum(path.stem not in ("__init__", "__main__") for path in package.glob("*.py")),
        "modules": len(files),
        "string-indexed record reads": sum(where.values()),
        "  by part": {part: n for part, n in where.most_common() if n},
        f"functions over {LONGEST} lines": sum(n > LONGEST for n in lengths),
        "functions": len(lengths),
        "lines per function, p50": statistics.median(lengths),
        "lines per function, p95": percentiles[-1],
        "docstrings that open with What/Where/Whether/How/Which": openings,
    }


def main() -> None:
    """Print the figures of each checkout side by side."""
    checkouts = [Path(word) for word in sys.argv[1:]] or [Path(__file__).parents[1]]
    found = [count(path) for path in checkouts]
    for key in found[0]:
        print(f"{key:58}", *(str(one[key]).rjust(12) for one in found))


if __name__ == "__main__":
    main()
