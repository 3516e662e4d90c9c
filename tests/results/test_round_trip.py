"""Every published file is read, checked and written back unchanged; unknown keys survive."""

import json
from pathlib import Path

import pytest

from latentdd_plugin.artifacts.file import load_artifact
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.leaderboard import literature
from latentdd_plugin.leaderboard.records import SUBMISSION, VERIFICATION, SubmissionRecord, VerificationRecord
from latentdd_plugin.results.cards import ALGO_CARD, CODEC_CARD, AlgoCard, CodecCard
from latentdd_plugin.results.comparison.comparison import Comparison
from latentdd_plugin.results.evaluation import Evaluation
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.training import Training

TOP = Path(__file__).parents[2]
KINDS = {
    SUBMISSION: SubmissionRecord,
    VERIFICATION: VerificationRecord,
    CODEC_CARD: CodecCard,
    literature.SCHEMA: literature.Literature,
    ALGO_CARD: AlgoCard,
    **{cls.schema_name: cls for cls in (Record, Evaluation, Comparison, Training)},
}
FILES = [*TOP.glob("registry/**/*.json"), *TOP.glob("tests/fixtures/**/*.json"), *TOP.glob("latentdd_plugin/**/*.json")]
PUBLISHED = [path for path in sorted(FILES) if b'"schema": "dd-bench/' in path.read_bytes()]


def test_all_kinds_of_the_registry_are_covered():
    found = {json.loads(path.read_text())["schema"] for path in PUBLISHED}
    assert {SUBMISSION, VERIFICATION, CODEC_CARD, Record.schema_name, literature.SCHEMA} <= found


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.relative_to(TOP).as_posix())
def test_a_published_file_is_written_back_unchanged(path):
    text = path.read_text()
    data = json.loads(text)
    cls = KINDS[data["schema"]]
    assert list(cls.from_json(data).to_json().items()) == list(data.items()), "the keys keep their order too"
    assert json.dumps(cls.from_json(data).to_json()) == json.dumps(data)


def test_unknown_keys_survive_at_every_level():
    data = json.loads((TOP / "tests" / "fixtures" / "result.v1.json").read_text())
    data["new"] = {"a": [1, None]}
    data["budget"]["bytes"]["new"] = 1
    data["scores"][0]["new"] = "x"
    data["summary"]["convnet"]["new"] = 0.5
    assert Record.from_json(data).to_json() == data


def test_every_fault_is_reported_with_its_path():
    data = json.loads((TOP / "tests" / "fixtures" / "result.v1.json").read_text())
    del data["selection"]
    data["scores"][1]["accuracy"] = 1.5
    data["budget"]["bytes"]["total"] = 81
    data["summary"]["convnet"]["n"] = True
    data["cost"]["unheard_s"] = -1
    with pytest.raises(ArtifactError) as caught:
        Record.from_json(data)
    assert caught.value.faults == (
        "budget.bytes.total: not the sum of codes, labels and trained",
        "scores.1.accuracy: 1.5, but it must be a fraction in [0, 1]",
        "summary.convnet.n: True, but it must be a whole number from 1",
        "selection: missing; it must be a line of at most 300 characters",
        "cost.unheard_s: -1, but it must be a number from 0, or null",
    )


def test_an_artifacts_header_is_written_back_unchanged():
    for path in sorted(TOP.glob("tests/fixtures/**/*.safetensors"))[:40]:
        header = load_artifact(path).header
        assert type(header).from_json(header.to_json()) == header
