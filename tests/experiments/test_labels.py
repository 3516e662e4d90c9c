"""Labels of a teacher, through the command line, on the digits: budget, file, baselines, evaluation, verification."""

import json
from dataclasses import replace

import pytest
import torch

from latentdd_plugin import load_artifact
from latentdd_plugin.artifacts.file import save_artifact
from latentdd_plugin.artifacts.labels import label_bits, pack_labels, unpack_labels
from latentdd_plugin.cli.main import main
from latentdd_plugin.core.config import LabelConfig, PartSpec
from latentdd_plugin.core.errors import ArtifactError, RunFailed, UsageError
from latentdd_plugin.leaderboard.publish import published
from latentdd_plugin.results.record import Record

SCORED = ["--evaluator", "convnet_d1", "--protocol", "demo.v1", "--quiet"]
RUN = ["run", "--codec", "dct", "--algo", "random", "--precision", "int8", *SCORED]
TEACHER = ["--teacher", "convnet_d1"]


def made(out, *words):
    assert main([*RUN, *TEACHER, "--out", str(out), *words]) == 0
    return json.loads((out / "result.json").read_text()), load_artifact(out / "distilled.safetensors")


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    """A run with soft labels, and its folder."""
    out = tmp_path_factory.mktemp("soft") / "run"
    return out, *made(out, "--labels", "soft")


def test_soft_labels_are_inside_the_budget_and_the_baselines_have_them(soft):
    _, record, artifact = soft
    # 256 bytes per class; an int8 code of 16 values and 10 bytes of labels: 9 codes instead of 16.
    assert record["budget"]["codes_per_class"] == 256 // 26
    assert record["budget"]["bytes"]["labels"] == 10 * len(artifact.labels) == artifact.soft.nbytes
    assert record["budget"]["bytes"]["total"] <= 2560
    pixels = record["controls"]["random-pixels"]
    assert pixels["config"]["labels"] == record["config"]["labels"]
    assert pixels["budget"]["bytes"]["labels"] == 10 * pixels["budget"]["codes"]


def test_the_record_describes_the_teacher(soft):
    _, record, artifact = soft
    teacher = record["teacher"]
    assert teacher["sha256"] == artifact.header.labels.teacher
    assert teacher["bytes"] == record["budget"]["bytes"]["teacher"] == 4 * teacher["params"]
    assert teacher["accuracy"] > 0.9
    assert teacher["trained_on"] == ["digits"]


def test_the_report_counts_every_byte(soft):
    out, record, _ = soft
    spent = record["budget"]["bytes"]
    every = sum(spent[part] for part in ("codes", "labels", "decoder", "teacher"))
    page = (out / "report.html").read_text()
    assert "its labels are stored" in page
    assert f"{every:,}" in page


def test_views_are_stored_with_their_boxes_and_refused_without(tmp_path, capsys):
    record, artifact = made(
        tmp_path / "views", "--labels", "views", "labels.views=3", "labels.top_k=2", "--controls", "none"
    )
    bits = 3 * (8 * 11 + 2 * (8 + 4))  # eleven bytes of view, two classes of four bits each with their values
    assert record["budget"]["codes_per_class"] == 8 * 256 // (16 * 8 + bits)
    assert artifact.soft.views.shape == (len(artifact.labels), 3, 11)
    assert artifact.soft.log_probabilities(len(artifact.labels), 10).exp().sum(-1).allclose(torch.ones(1))
    bare = tmp_path / "bare.safetensors"
    save_artifact(replace(artifact, soft=replace(artifact.soft, views=None)), bare)
    assert main(["evaluate", str(bare), "--quiet"]) == 2
    assert "labels.views: it is missing, but belongs to views labels" in capsys.readouterr().err


def test_a_teacher_on_the_fly_costs_no_label_bytes(tmp_path):
    record, artifact = made(tmp_path / "teacher", "--labels", "teacher", "--controls", "none")
    assert record["budget"]["bytes"]["labels"] == 0
    assert record["budget"]["codes_per_class"] == 16
    assert artifact.soft is None
    assert artifact.header.labels.regime == "teacher"


def test_evaluate_scores_one_artifact_under_several_regimes(soft, capsys):
    out, record, _ = soft
    words = ["--labels", "own,hard,teacher", *TEACHER, *SCORED]
    assert main(["evaluate", str(out), *words]) == 0
    found = [json.loads(p.read_text()) for p in sorted((out / "evaluations").glob("*/evaluation.json"))]
    by_regime = {one["config"].get("labels", {}).get("regime", "own"): one for one in found}
    assert set(by_regime) == {"own", "hard", "teacher"}
    assert [row["accuracy"] for row in by_regime["own"]["scores"]] == [row["accuracy"] for row in record["scores"]]
    assert by_regime["hard"]["summary"] != by_regime["teacher"]["summary"]


def test_labels_given_afterwards_are_those_that_a_file_would_hold(tmp_path):
    words = ["--labels", "soft", "labels.top_k=2", "labels.precision=int8"]
    made(tmp_path / "own", *words, "--controls", "none")
    path = str(tmp_path / "own" / "distilled.safetensors")
    found = {}
    for name, more in {"own": [], "afterwards": words, "every class": [*words[:2], "labels.precision=fp32"]}.items():
        assert main(["evaluate", path, *more, *TEACHER, *SCORED, "--out", str(tmp_path / f"{name}-scored")]) == 0
        found[name] = [
            one["accuracy"]
            for one in json.loads((tmp_path / f"{name}-scored" / "evaluation.json").read_text())["scores"]
        ]
    assert found["own"] == found["afterwards"] != found["every class"]


def test_full_verification_asks_the_teacher_again_and_refuses_tampered_labels(soft, tmp_path, capsys):
    from latentdd_plugin.leaderboard.verify import verify

    out, *_ = soft
    assert main(["verify", str(out), "--quiet"]) == 0
    assert "to the bit" in capsys.readouterr().out
    forged = tmp_path / "forged"
    forged.mkdir()
    for path in out.iterdir():
        if path.is_file():
            (forged / path.name).write_bytes(path.read_bytes())
    artifact = load_artifact(out / "distilled.safetensors")
    other = artifact.soft.data.clone()
    other[:10] = other[:10].roll(1)
    sha256 = save_artifact(replace(artifact, soft=replace(artifact.soft, data=other)), forged / "distilled.safetensors")
    record = json.loads((forged / "result.json").read_text())
    record["artifact"]["sha256"] = sha256
    (forged / "result.json").write_text(json.dumps(record))
    (forged / "checksums.json").unlink()
    check = verify(forged, "full")
    assert check.result == "failed"
    assert any("not what the teacher gives" in line for line in check.why)


def test_a_submission_keeps_labels_and_teacher_but_not_the_teachers_place(soft):
    out, *_ = soft
    record = Record.load(out)
    claim = published(record)
    assert claim.config.labels == record.config.labels
    assert claim.config.teacher == record.config.teacher
    assert "--labels soft --teacher convnet" in claim.command
    placed = replace(record, config=replace(record.config, teacher={**record.config.teacher, "path": "/home/me/net"}))
    assert "/home/me" not in json.dumps(published(placed).to_json())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "soft"], "name the teacher"),
        (["--labels", "softly"], "labels.regime=softly: choose one of"),
        (["--labels", "soft", "--teacher", "resnet99"], "no timm architecture"),
        (["--labels", "soft", "--teacher", "convnet", "labels.top_k=0"], "labels.top_k=0: must be at least 1"),
        (["--labels", "soft", "--teacher", "convnet", "teacher.path=nowhere"], "teacher.path=nowhere: no teacher.json"),
        (["--labels", "soft", "--teacher", "convnet", "teacher.recipe=mine"], "teacher.recipe=mine: choose one of"),
        (["--algo", "rded"], "needs a teacher"),
    ],
)
def test_faults_are_seen_before_any_work(words, message, tmp_path, capsys):
    assert main([*RUN, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_more_labels_than_classes_are_refused_before_the_teacher_is_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    words = ["--labels", "soft", "labels.top_k=11", "--out", str(tmp_path / "run")]
    assert main([*RUN, *TEACHER, *words]) == 2
    assert "labels.top_k=11: there are only 10 classes" in capsys.readouterr().err
    assert not (tmp_path / "cache" / "teachers").exists()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("top_k", [None, 3])
def test_packing_keeps_the_distribution(precision, top_k):
    logits = torch.randn((7, 10), generator=torch.Generator().manual_seed(0)) * 3
    packed = pack_labels(logits, precision, top_k)
    assert 8 * packed.numel() - 7 < 7 * label_bits(LabelConfig("soft", precision, top_k), 10) + 8
    found = unpack_labels(packed, 7, 10, precision, top_k).exp()
    kept = logits.softmax(1).topk(top_k or 10, 1)
    tolerance = {"fp32": 1e-6, "fp16": 2e-3, "int8": 4e-2}[precision]
    assert found.gather(1, kept.indices).allclose(kept.values, atol=tolerance)
    assert found.sum(1).allclose(torch.ones(7))


def test_faulty_labels_are_refused():
    with pytest.raises(RunFailed, match="not finite"):
        pack_labels(torch.full((2, 3), torch.nan), "int8", None)
    with pytest.raises(UsageError, match="only 3 classes"):
        label_bits(LabelConfig("soft", top_k=4), 3)
    with pytest.raises(ArtifactError, match=r"uint8 \(6,\) is needed"):
        unpack_labels(torch.zeros(5, dtype=torch.uint8), 2, 3, "int8", None)
    with pytest.raises(ArtifactError, match="named twice"):
        unpack_labels(torch.zeros(1 + 4, dtype=torch.uint8), 2, 3, "int8", 2)


def test_a_comparison_runs_every_cell_under_each_regime():
    from latentdd_plugin import RunConfig
    from latentdd_plugin.experiments.compare import Grid
    from latentdd_plugin.experiments.compare.grid import cells

    base = RunConfig(teacher="convnet_d1", labels={"precision": "fp16"})
    grid = Grid(base, (PartSpec("dct"),), (PartSpec("dm"),), ledgers=("bytes",), labels=("hard", "soft"))
    found = {cell.name: cell.config for cell in cells(grid)}
    assert {name for name in found if name.startswith("dct")} == {
        *("dct-random-fp32-hard-bytes", "dct-random-fp32-soft-bytes"),
        *("dct-dm-code-fp32-hard-bytes", "dct-dm-code-fp32-soft-bytes"),
    }
    soft = found["dct-random-fp32-soft-bytes"]
    assert (soft.labels.regime, soft.labels.precision, soft.teacher.name) == ("soft", "fp16", "convnet_d1")
    assert not found["dct-random-fp32-hard-bytes"].teacher


def test_the_class_itself_can_have_a_weight():
    from latentdd_plugin.evaluators.scoring import with_truth

    logits = torch.tensor([[0.2, 0.8]]).log()
    assert with_truth(logits, torch.tensor([0]), 0.5).exp().allclose(torch.tensor([[0.6, 0.4]]))
    assert with_truth(logits, torch.tensor([0]), 0.0) is logits
