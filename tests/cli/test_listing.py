"""Broken plug-ins of other distributions: `list --check` shows each with its reason, and everything else works."""

import sys

import pytest

from latentdd_plugin.cli import listing, main

CODEC = "from latentdd_plugin.codecs.identity import Identity\n"
FAULTS = {  # module -> (its text, what --check says of it)
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "divides": ("1 / 0", "ZeroDivisionError: division by zero"),
    "misspelt": ("def f(:", "SyntaxError"),
    "wants": ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    "empty": ("", "AttributeError: empty has no 'Part'"),
    "ends": ("class Ends(BaseException): ...\nraise Ends('at once')", "Ends: at once"),
    "other": ("class Part: ...", "Part does not derive from latentdd_plugin.codecs.base.Codec"),
    "half": (
        "from latentdd_plugin.codecs.base import Codec as C\nclass Part(C): ...",
        "Part does not define decode, enc",
    ),
    "number": ("Part = 3", "a class or a Preset is wanted, this is a int"),
    "later": (
        CODEC + "class Part(Identity):\n    contract = 2",
        "written for contract 2, this version knows contract 1",
    ),
}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Distributions with every fault, and two sound ones, on the path; their modules are forgotten afterwards."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def distribution(name, entry_points, text=None, requires=""):
        info = site / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n{requires}")
        (info / "entry_points.txt").write_text(entry_points)
        if text is not None:
            (site / f"{name}.py").write_text(text)

    for name in [*FAULTS, "lacking", "sound", "second", "figures"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, (text, _) in FAULTS.items():
        distribution(name, f"[dd_bench.codecs]\n{name} = {name}:Part\n", text)
    extra = "Provides-Extra: fast\nRequires-Dist: no-such-wheel>=2; extra == 'fast'\nRequires-Dist: ??? ; nonsense\n"
    distribution("lacking", "[dd_bench.codecs]\nlacking = lacking:Part [fast]\n", "import no_such_wheel", extra)
    distribution("sound", "[dd_bench.codecs]\ntwin = sound:Part\nsound = sound:Part\n", CODEC + "Part = Identity")
    distribution("second", "[dd_bench.codecs]\ntwin = second:Part\n", CODEC + "Part = Identity")
    distribution("malformed", "no section\n")
    distribution("figures", "[dd_bench.datasets]\nfigures = figures:SET\n", "SET = 3")
    yield site
    for name in [*FAULTS, "lacking", "sound", "second", "figures"]:
        sys.modules.pop(name, None)


def lines_of(out):
    return {line.split()[0]: line for line in out.splitlines() if line.strip()}


def test_check_shows_every_fault_with_its_reason_and_its_distribution(broken, capsys):
    assert main.main(["list", "codecs", "--check"]) == 0
    captured = capsys.readouterr()
    table, _, reasons = captured.out.partition("\n\n")
    marks = {line.split()[0]: line.split()[-1] for line in table.splitlines()}
    assert {name for name, mark in marks.items() if mark == "fails"} == {*FAULTS, "lacking", "twin"}
    assert {marks[name] for name in ("identity", "dct", "pca", "sound")} == {"ok"}
    for name, (_, reason) in FAULTS.items():
        told = next(line for line in reasons.splitlines() if f"{name} = {name}:Part" in line)
        assert f"(of {name} 1.5)" in told
        assert reason in told
    assert "codec 'twin' is claimed twice, uninstall one: " in reasons
    assert "twin = sound:Part (of sound 1.5)" in reasons
    assert "twin = second:Part (of second 1.5)" in reasons
    assert "it wants: pip install 'lacking[fast]'" in reasons
    assert "no-such-wheel" in lines_of(table)["lacking"], "seen without importing"
    assert "malformed 1.5: malformed entry_points.txt" in captured.err


def test_without_check_nothing_is_imported(broken, capsys):
    assert main.main(["list"]) == 0
    out = capsys.readouterr().out
    assert {"codecs", "algos", "evaluators", "datasets"} <= set(lines_of(out)), "all groups"
    assert "claimed twice (" in lines_of(out)["twin"]
    assert not {*FAULTS} & set(sys.modules)


def test_a_dataset_that_is_no_function_is_shown(broken, capsys):
    assert main.main(["list", "datasets", "--check"]) == 0
    assert "dataset figures = figures:SET (of figures 1.5): must be a function" in capsys.readouterr().out


def test_everything_else_runs_beside_them(broken, tmp_path, monkeypatch, tiny_protocol, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--algo", "random", "--lpc", "2", "--protocol", "tiny.test", "--evaluator", "convnet_d1", "--quiet"]
    for codec in ("dct", "sound"):
        more = ["--codec", codec, "--controls", "none", "--device", "cpu", "--out", f"run-{codec}"]
        assert main.main(["run", *words, *more]) == 0
        assert f"{codec} + random" in capsys.readouterr().out
    for name in [*FAULTS, "lacking", "twin"]:
        assert main.main(["run", *words, "--codec", name, "--out", "never"]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("dd-bench: codec")
        assert "Traceback" not in captured.err
    assert not (tmp_path / "never").exists()


def test_metadata_without_a_name_is_no_harm():
    assert listing.absent_requirements("no-such-distribution", "fast") == []
