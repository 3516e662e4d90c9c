"""Each contract reports a plug-in that violates it, with a message that names the contract and the values."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from latentdd_plugin import testing
from latentdd_plugin.core.errors import PluginError, UsageError
from latentdd_plugin.testing import contracts
from latentdd_plugin.testing.pytest_plugin import subject_of

FILE = Path(__file__).parent / "broken.py"
SUITES = {
    "codec": testing.CODEC_CONTRACTS,
    "algo": testing.DISTILLER_CONTRACTS,
    "evaluator": testing.EVALUATOR_CONTRACTS,
}
spec = importlib.util.spec_from_file_location("broken", FILE)
broken = importlib.util.module_from_spec(spec)
spec.loader.exec_module(broken)
CASES = [
    (kind, contract, name)
    for kind, cases in broken.BREAKS.items()
    for contract, names in cases.items()
    for name in names
]
SAYS = {  # patterns that some of the messages contain
    "NoDefault": "option 'strength' has no default",
    "Crops": r"\(3, 13, 21\): codes \(1, 3, 12, 20\) decode to \(1, 3, 12, 20\)",
    "CropsAndPads": "the codes do not depend on the last row",
    "RefusesInSilence": "without saying which sizes work: I do not like this size",
    "Larger": r"encode got images \(6, 1, 8, 8\), decode returns \(6, 1, 16, 16\)",
    "Symmetric": r"decode to values in \[-1, 1.5\]",
    "Fractional": "is not a whole number from 0 to 15",
    "Blends": "codes that are not numbers of the codebook's entries, 0 to 15",
    "HalfDetached": "finite differences",
    "Counting": "use changed shared.calls",
    "LeftBehind": "gain: tensors that are not registered as buffers",
    "TooMany": r"codes \(30, 1, 4, 4\) for 2 codes in each of 10 classes, not \(20, 1, 4, 4\)",
    "OneClass": r"codes per class \[20, 0, 0",
    "WantsMany": "it raised IndexError: not enough images",
    "GlobalDraw": "the global generator of NumPy and Python was used",
    "Remembers": "resumed after step 1 of 3: codes: differ by up to",
    "PerCent": r"accuracy \d+\.\d+ lies outside \[0, 1\]",
    "HardOnly": "it raised AssertionError: only hard labels",
}


def path_of(name):
    return f"{FILE}:{name}"


def test_every_contract_has_a_plug_in_that_breaks_it():
    for kind, suite in SUITES.items():
        assert [contract.__name__ for contract in suite] == list(broken.BREAKS[kind])


@pytest.mark.parametrize(("kind", "contract", "name"), CASES, ids=[f"{c[0]}-{c[1]}-{c[2]}" for c in CASES])
def test_a_broken_plug_in_is_caught_by_its_contract(kind, contract, name):
    subject, suite = subject_of(path_of(name))
    assert suite is SUITES[kind]
    findings = {finding.contract: finding for finding in testing.run_contracts(subject, suite)}
    assert findings[contract].status == contracts.BROKEN
    with pytest.raises(testing.ContractBroken, match=f"contract '{contract}' is broken: .*{SAYS.get(name, '')}"):
        next(c for c in suite if c.__name__ == contract)(subject)


@pytest.mark.parametrize(("kind", "name"), [("codec", "Plain"), ("evaluator", "Guess")])
def test_what_they_are_made_of_keeps_to_every_contract(kind, name):
    findings = testing.run_contracts(subject_of(path_of(name))[0], SUITES[kind])
    others = [(finding.contract, finding.status) for finding in findings if finding.status != contracts.PASSED]
    assert others == ([("tokens", contracts.SKIPPED)] if kind == "codec" else [])


def test_every_contract_states_its_rule_in_one_sentence_or_two():
    for suite in SUITES.values():
        for contract in suite:
            assert contracts.rule(contract).endswith(".")
            assert len(contracts.rule(contract)) < 120


def test_whatever_a_plug_in_raises_is_a_finding():
    found = []

    @contracts.contract(found)
    def leaves(subject):
        """Never."""
        raise SystemExit(3)

    with pytest.raises(testing.ContractBroken, match="contract 'leaves' is broken: it raised SystemExit: 3"):
        found[0](None)


def test_ctrl_c_passes():
    @contracts.contract([])
    def stopped(subject):
        """Never."""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped(None)


def test_what_cannot_be_used_at_all_is_no_finding():
    with pytest.raises(UsageError, match=r"give codec.path=FOLDER"):
        testing.run_contracts(testing.CodecSubject("diffusers"), testing.CODEC_CONTRACTS)
    with pytest.raises(PluginError, match="unknown codec"):
        testing.CodecSubject("idntity")


# --- pytest --dd-bench ------------------------------------------------------------------------------------------------


def pytest_in(folder, *words):
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_pytest_runs_the_contracts_of_a_name_and_of_a_file(tmp_path):
    (tmp_path / "test_other.py").write_text("def test_other():\n    assert False")
    (tmp_path / "mine.py").write_text(FILE.read_text())
    code, out = pytest_in(tmp_path, "--dd-bench", "identity,./mine.py:Doubles", "-v", "-k", "float32 or gradient")
    assert code == 1
    assert "identity::float32 PASSED" in out
    assert "./mine.py:Doubles::gradient PASSED" in out
    assert "contract 'float32' is broken: images (1, 8, 8): decoded images are torch.float64" in out
    assert "rule: Codes and decoded images are float32." in out
    assert "1 failed, 3 passed" in out
    assert "test_other" not in out, "the contracts alone"
    assert "Traceback" not in out


def test_pytest_takes_the_tests_that_are_named_beside_it(tmp_path):
    (tmp_path / "test_other.py").write_text("def test_other():\n    assert True")
    code, out = pytest_in(tmp_path, "--dd-bench", "codec:identity", "test_other.py", "--collect-only", "-q")
    assert code == 0
    assert "test_other.py::test_other" in out
    assert "codec:identity::spatial" in out
    assert "18 tests collected" in out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("idntity", "no codec, distiller or evaluator is named 'idntity' (did you mean identity"),
        ("algo:identity", "unknown algo 'identity'"),
        ("./absent.py:Mine", "FileNotFoundError"),
        ("diffusers", "give codec.path=FOLDER"),
    ],
)
def test_pytest_says_what_is_wrong_with_a_name(tmp_path, name, says):
    code, out = pytest_in(tmp_path, "--dd-bench", name)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert says in out


def test_a_name_that_is_several_wants_its_kind(monkeypatch):
    from latentdd_plugin.core import plugins

    monkeypatch.setattr(plugins, "entries", lambda group: {"twin": None} if group != "datasets" else {})
    with pytest.raises(
        UsageError, match="'twin' names several plug-ins: use codec:twin or algo:twin or evaluator:twin"
    ):
        subject_of("twin")


def test_pytest_starts_without_torch(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "import sys\ndef pytest_sessionfinish():\n"
        "    print('torch' in sys.modules, 'latentdd_plugin.testing' in sys.modules)"
    )
    assert "False True" in pytest_in(tmp_path, "-q", "-s")[1]
    assert "unrecognized arguments" in pytest_in(tmp_path, "-p", "no:dd-bench", "--dd-bench", "identity")[1]
