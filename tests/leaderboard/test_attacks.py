"""One attack of each kind on what others are asked to believe; docs/reference/trust.md is their table."""

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import suite as tiny_suite
from forgery import called, edit, reasons
from PIL import Image
from safetensors.torch import load_file, save_file

from latentdd_plugin.artifacts.decode import located
from latentdd_plugin.artifacts.file import KEY, _content_hash, file_sha256, load_artifact
from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.types import Score, canonical_json
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard.publish import published
from latentdd_plugin.leaderboard.records import Check, CheckedRow, VerificationRecord
from latentdd_plugin.leaderboard.score_differences import compare_scores
from latentdd_plugin.leaderboard.verify import verify
from latentdd_plugin.results.record import Record


def test_a_checks_are_not_switched_off_by_calling_the_method_its_own_baseline(claim):
    def attack(record):
        record["config"]["controls"], record["controls"] = False, {}

    edit(claim, attack)
    assert "left out; every method stands beside its baselines" in reasons(claim)


def test_b_a_baseline_of_another_seed_is_not_the_methods(claim):
    edit(claim, lambda record: record["controls"]["random-codes"]["config"].update(seed=3))
    assert "controls.random-codes.config.seed: 3, but it must be 0" in reasons(claim)


def test_c_a_suite_of_the_submitters_is_not_read(claim, tmp_path, monkeypatch):
    tiny_suite.written(tmp_path, name="mine.v1", datasets=[{"name": "digits", "test_size": 359}])
    folder = claim.parent.with_name("mine.v1")
    shutil.copytree(claim.parent, folder)
    shutil.copy(tmp_path / "mine.v1.yaml", folder)
    monkeypatch.chdir(tmp_path)
    tree = json.loads(claim.read_text()) | {"suite": "mine.v1"}
    (folder / claim.name).write_text(json.dumps(tree))
    assert "there is no suite 'mine.v1'" in reasons(folder / claim.name)


def test_c_images_of_another_size_are_not_the_suites(claim):
    def attack(record):
        for options in (record["dataset"]["options"], record["config"]["dataset"]):
            options["image_size"] = 16
        record["dataset"]["image_shape"] = [1, 16, 16]

    edit(claim, attack)
    assert "image_size is 16" in reasons(claim)


def test_d_a_description_is_compared_with_what_is_built(claim):
    edit(claim, lambda record: record["codec"].update(spatial=False, trained_on=["nothing at all"]))
    told = reasons(claim)
    assert "codec.spatial: False claimed, the codec says True" in told
    assert "codec.trained_on" in told


def test_g_a_hand_written_check_without_rows_does_not_count(claim):
    verify(claim, "static")
    path = claim.with_name(f"{claim.stem}.verification.json")
    tree = json.loads(path.read_text())
    tree["checks"] = [{**tree["checks"][0], "level": "repeat", "same_platform": True}]
    path.write_text(json.dumps(tree))
    found = registry.load_submission(claim)
    assert (found.status, found.levels) == ("unverified", ())


def test_h_checks_are_not_written_through_a_link(claim, tmp_path):
    verify(claim, "static")
    path = claim.with_name(f"{claim.stem}.verification.json")
    outside = tmp_path / "outside.json"
    shutil.move(path, outside)
    path.symlink_to(outside)
    before = outside.read_bytes()
    with pytest.raises(ArtifactError, match="is a link"):
        verify(claim, "static")
    assert outside.read_bytes() == before


def test_i_verification_imports_nothing_from_the_registrys_folder(claim, tmp_path):
    note = tmp_path / "executed"
    for name in ("safetensors", "yaml", "timm", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(note)!r}, 'w').close()\n")
    words = [sys.executable, "-m", "latentdd_plugin", "verify", str(claim), "--level", "static", "--quiet"]
    unsafe = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(words, cwd=tmp_path, env=unsafe, capture_output=True, text=True, check=False, timeout=200)
    assert "there is no suite 'tiny.v1'" in done.stdout, done.stderr
    assert not note.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("threads", "abc"), ("threads", -1), ("threads", 1.5), ("threads", 10**15), ("threads", True), ("device", "meta"),
     ("device", "cuda:-1"), ("amp", "…"), ("compile", []), ("torch", None)],
)  # fmt: skip
def test_j_arithmetic_that_no_machine_has_is_a_fault_and_the_next_claim_follows(claim, tmp_path, capsys, key, value):
    tree = json.loads(claim.read_text())
    claim.with_name("z.json").write_text(json.dumps(tree | {"suite_sha256": "0" * 64}))
    edit(claim, lambda record: record["environment"]["numerics"].update({key: value}))
    assert called("verify", "--all", "--registry", tmp_path / "registry", "--level", "full", "--quiet") == 1
    told = capsys.readouterr().out
    assert f"environment.numerics.{key}" in told
    assert "z.json: failed" in told
    assert "z.json: grid.file: " in told


SPELLINGS = ["\\\\server\\share\\x", "%2Fhome%2Fme", "$HOME/x", "me@host:x", "x:/y", "..", "me\u2215x"]


@pytest.mark.parametrize("place", SPELLINGS)
def test_l_other_spellings_of_places_are_not_published(made, place):
    data = json.loads((made / "result.json").read_text())
    data["command"] = data["config"]["dataset"]["name"] = data["config"]["codec"]["path"] = place
    data["distiller"]["config"]["source"] = data["config"]["algo"]["source"] = [{"at": place}]
    data["codec"]["source"] = {"folder": [place]}
    text = json.dumps(published(Record.from_json(data)).to_json(), ensure_ascii=False)
    assert json.dumps(place, ensure_ascii=False)[1:-1] not in text


def test_m_pictures_that_are_links_to_devices_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for label in "ab":
        (tmp_path / "train" / label).mkdir(parents=True)
        for n in range(10):
            Image.new("L", (8, 8), n + 20 * (label == "b")).save(tmp_path / "train" / label / f"{n}.png")
    (tmp_path / "train" / "a" / "link.png").symlink_to("/dev/zero")
    data = load_dataset(DatasetConfig(name=str(tmp_path)))
    assert len(data.train) + len(data.held_out("test")) == 20
    assert "left out 1: 1 a link that leads outside the folder" in caplog.text


def test_m_a_header_that_decodes_to_no_image_is_refused(claim):
    path = claim.with_suffix(".safetensors")
    stored, tensors = load_artifact(path), load_file(path)
    header = json.loads(canonical_json(stored.header.to_json()))
    header["space"] = {**(header.get("space") or {}), "mean": [1e38] * stored.codes[0].numel()}
    header = {key: value for key, value in header.items() if key != "content_sha256"}
    header["content_sha256"] = _content_hash(header, tensors)
    save_file(tensors, path, metadata={KEY: canonical_json(header)})
    with pytest.raises(UsageError):
        load_artifact(path).decode()

    def attack(record):
        record["artifact"] |= {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        record["budget"]["bytes"]["file"] = path.stat().st_size

    edit(claim, attack)
    assert reasons(claim)


def score(seed, **more):
    return Score("convnet_d1", "convnet_d1", {}, 9, seed, more.pop("accuracy", 0.5), **more)


def test_what_stands_beside_an_accuracy_is_compared_as_well():
    """On the same platform to the bit; elsewhere the mean, and what no mean says is not part of a claim."""
    honest = [score(seed, top5=0.8, by_class=(0.5, 0.5), confused=((0, 1, 3),)) for seed in range(5)]
    assert compare_scores(honest, honest, same=True)[1] == []
    for name, false in (("top5", 0.9), ("by_class", (0.6, 0.4)), ("confused", ((1, 0, 3),))):
        forged = [replace(honest[0], **{name: false}), *honest[1:]]
        (why,) = compare_scores(forged, honest, same=True)[1]
        assert f"seed 0: {name} " in why
    forged = [replace(row, top5=0.9) for row in honest]
    (why,) = compare_scores(forged, honest, same=False)[1]
    assert "top-5 of convnet_d1: 0.9000 claimed, 0.8000 found over 5 networks" in why


@pytest.mark.parametrize("details", [{"by_class": [0.5] * 10}, {"confused": [[0, 1, 3]]}])
def test_a_claim_holds_no_details_of_one_network(claim, details):
    edit(claim, lambda record: record["scores"][0].update(details))
    assert "is part of a run's report, not of a claim" in reasons(claim)


def test_a_baselines_codes_are_counted(claim):
    edit(claim, lambda record: record["controls"]["random-pixels"]["budget"].update(codes_per_class=9))
    assert "'random-pixels'.budget.shortfall: None, 40 of 90 stored" in reasons(claim)


def test_a_failed_repetition_stands_until_a_repetition_passes(claim):
    record = registry.load_submission(claim).record
    rows = [
        CheckedRow(evaluator=one.evaluator, seed=one.seed, claimed=one.accuracy, found=one.accuracy, control=name)
        for name, scores in ((None, record.scores), *((n, b.scores) for n, b in record.scored_baselines.items()))
        for one in scores
    ]

    def status(*checks):
        made = [Check.of(level, why, rows, same_platform=True) for level, why in checks]
        content = VerificationRecord(claim_sha256=file_sha256(claim), checks=tuple(made)).to_json()
        claim.with_name(f"{claim.stem}.verification.json").write_text(json.dumps(content))
        return registry.load_submission(claim).status

    assert status(("repeat", ["other codes"]), ("full", [])) == "failed"
    assert status(("repeat", ["other codes"]), ("full", []), ("repeat", [])) == "verified"
    assert status(("static", ["a key"]), ("full", [])) == "verified"
    assert status(("full", []), ("static", ["a key"])) == "failed"


def test_an_evaluator_is_not_left_out_for_an_invented_reason():
    found = [score(0), replace(score(0), evaluator="resnet18")]
    assert "resnet18: left out, though it can be trained here" in compare_scores(found[:1], found, same=True)[1]


def test_an_option_of_labels_that_there_is_not_is_a_fault(claim):
    edit(claim, lambda record: record["config"].update(labels={"regime": "hard", "zzz": 1}))
    assert "zzz" in reasons(claim)


def test_what_is_kept_of_a_failure_can_be_read_and_printed():
    check = Check.of("static", ["\x1b[1A" + "x" * 50_000, *map(str, range(60_000))])
    assert len(check.why) == 101
    assert all(reason.isprintable() for reason in check.why)
    assert Check.from_json(check.to_json()) == check


def test_a_configuration_with_aliases_is_not_expanded(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghij")]
    (run / "config.yaml").write_text("\n".join(lines))
    assert located(run)[1] == {}


@pytest.mark.parametrize("name", ["result.json", "distilled.safetensors"])
def test_a_fifo_is_no_file_to_wait_for(made, tmp_path, name):
    run = shutil.copytree(made, tmp_path / "run")
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(ArtifactError, match="not a regular file"):
        _ = load_artifact(run / name) if name.endswith("tensors") else Record.load(run)


def test_a_key_that_is_there_twice_is_refused_in_a_run_as_in_a_claim(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    text = (run / "result.json").read_text()
    (run / "result.json").write_text(text.replace('"scores":', '"scores": [], "scores":', 1))
    with pytest.raises(ArtifactError, match="twice"):
        Record.load(run)


def test_the_callers_own_registry_may_be_a_link(tmp_path):
    shipped = registry.default()
    (tmp_path / "linked").symlink_to(shipped)
    found = registry.read(tmp_path / "linked")
    assert found.faults == registry.read(shipped).faults == ()
    assert len(found.literature) == len(list(shipped.glob("literature/*.json"))) > 0
