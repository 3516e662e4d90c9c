"""The check of a pull request refuses verification files: its own step is run in a repository."""

import subprocess
from pathlib import Path

import pytest
import yaml

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "registry.yml"
STEP = "checks are a maintainer's to write"
CLAIM = "registry/submissions/tiny.v1/a.json"
CHECK = "registry/submissions/tiny.v1/a.verification.json"
STRANGE = "registry/submissions/tiny.v1/ä.verification.json"


@pytest.fixture
def repository(tmp_path):
    """A repository with a claim and its check on `main`, and a branch of it."""
    for words in ("init -q -b main", "config user.name x", "config user.email x@example.org"):
        git(tmp_path, *words.split())
    for name in (CLAIM, CHECK):
        write(tmp_path, name, "{}")
    committed(tmp_path)
    git(tmp_path, "checkout", "-q", "-b", "branch")
    return tmp_path


def git(folder, *words):
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def committed(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--no-gpg-sign", "-m", "x")


def step(folder):
    """Run the workflow's step on the branch: its exit code and what it says."""
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["static"]["steps"]
    (script,) = [one["run"] for one in steps if one.get("name") == STEP]
    words = ["bash", "-eo", "pipefail", "-c", script]  # as the runner starts it
    environment = {"BASE": "main", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(words, check=False, cwd=folder, env=environment, capture_output=True)
    return ended.returncode, ended.stdout.decode()


def test_a_claim_alone_passes(repository):
    write(repository, CLAIM.replace("a.json", "b.json"), "{}")
    write(repository, CLAIM, '{"changed": 1}')
    committed(repository)
    assert step(repository) == (0, "")


@pytest.mark.parametrize("name", [CHECK, CHECK.replace("a.", "b."), STRANGE])
def test_a_verification_file_is_refused_by_name(repository, name):
    write(repository, name, '{"checks": []}')
    committed(repository)
    code, says = step(repository)
    assert code == 1
    assert ".verification.json" in says
    assert "a maintainer verifies it" in says


@pytest.mark.parametrize("words", [["rm", "-q", CHECK], ["mv", CHECK, "elsewhere.json"]])
def test_removing_a_failure_is_refused(repository, words):
    git(repository, *words)
    committed(repository)
    code, says = step(repository)
    assert code == 1
    assert CHECK in says
