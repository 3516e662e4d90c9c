"""From a run to a verified entry; and whatever is changed on the way is found, and said."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import suite as tiny_suite
import tiny
import torch

from latentdd_plugin.artifacts.file import file_sha256, load_artifact, save_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import ArtifactError
from latentdd_plugin.core.types import Score, canonical_json
from latentdd_plugin.experiments import suites
from latentdd_plugin.leaderboard import registry, table
from latentdd_plugin.leaderboard.publish import published
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.statistics import gains, summarise

ME = ["--name", "A. Person", "--contact", "a@example.org"]
SLUG = "a-person-digits-ipc1-dct-dm-int8"


def called(*words):
    return main.main([str(word) for word in words])


@pytest.fixture
def claim(run, tmp_path):
    """A submission's file."""
    assert called("submit", run, *ME, "--registry", tmp_path / "registry") == 0
    return tmp_path / "registry" / "submissions" / "tiny.v1" / f"{SLUG}.json"


def change(path, *keys, to):
    """Set what lies under these keys of a JSON file; `to` is a value, or a function of the one there."""
    tree = json.loads(path.read_text())
    place = tree
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to(place[keys[-1]]) if callable(to) else to
    path.write_text(json.dumps(tree, indent=2, sort_keys=True))
    return tree


def checks(claim):
    kept = json.loads(claim.with_name(f"{claim.stem}.verification.json").read_text())
    assert kept["claim_sha256"] == hashlib.sha256(claim.read_bytes()).hexdigest()
    return kept["checks"]


def refused(capsys, claim, *says, level="static"):
    """Verification fails and says this; what failed is kept beside the claim, which is not touched."""
    before = claim.read_bytes()
    assert called("verify", claim, "--level", level, "--quiet") == 1
    told = capsys.readouterr().out
    for text in says:
        assert text in told
    assert claim.read_bytes() == before
    assert checks(claim)[-1]["result"] == "failed"
    return told


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_run_becomes_a_submission_and_is_verified_to_the_bit(run, tmp_path, capsys):
    assert called("submit", run, *ME, "--registry", tmp_path / "registry", "--paper", "https://example.org/p") == 0
    folder = tmp_path / "registry" / "submissions" / "tiny.v1"
    told = capsys.readouterr().out
    assert told.splitlines()[:3] == [f"{folder / SLUG}.{ending}" for ending in ("json", "safetensors", "png")]
    assert "pull request" in told
    kept = json.loads((folder / f"{SLUG}.json").read_text())
    ours = json.loads((run / "result.json").read_text())
    assert str(run.parent) not in json.dumps(kept), "where it lay on this machine"
    for one in (ours, *ours["controls"].values()):  # of single networks, another platform can recompute the accuracy
        one["scores"] = [{k: v for k, v in row.items() if k not in ("by_class", "confused")} for row in one["scores"]]
    assert kept["record"] | {"command": ""} == ours | {"command": ""}
    assert (kept["suite"], kept["cell"]) == ("tiny.v1", "digits-ipc1-dct-dm-int8")
    assert kept["suite_sha256"] == suites.get("tiny.v1").sha256
    assert called("verify", folder / f"{SLUG}.json", "--quiet") == 0
    assert "verified (8 of 8 accuracies to the bit, the same platform)" in capsys.readouterr().out
    assert called("verify", "--all", "--registry", tmp_path / "registry", "--level", "static") == 0
    first, second = checks(folder / f"{SLUG}.json")
    assert (first["level"], first["result"], second["level"]) == ("full", "verified", "static")
    assert [row["claimed"] for row in first["rows"]] == [row["found"] for row in first["rows"]]


PLACES = [
    "{path:/home/me/x}",
    "file:///home/me/x",
    "C:\\Users\\me\\x",
    "~other/x",
    "relative/folder",
    "../x",
    "s3://bucket/x",
    "/home/me/x",
    "hf_abcdefghijklmnopqrstuv123456",
]


@pytest.mark.parametrize("place", PLACES)
def test_neither_places_nor_tokens_are_published(place):
    data = json.loads((Path(__file__).parents[1] / "fixtures" / "result.v1.json").read_text())
    data["command"] = f"dd-bench run --dataset {place}"
    for config in (data["config"], data["controls"]["random-codes"]["config"]):
        config["dataset"]["name"] = config["codec"]["path"] = config["extra"] = place
        config["algo"]["source"] = place
    data["distiller"]["config"]["source"] = place
    data["codec"]["source"] = {"folder": place}
    data["environment"]["home"] = data["note"] = place
    made = json.dumps(published(Record.from_json(data)).to_json())
    assert place not in made
    assert json.dumps(place)[1:-1] not in made
    assert "me" not in re.findall(r"[A-Za-z0-9]+", made)


def test_an_option_that_is_called_a_secret_is_hidden():
    data = json.loads((Path(__file__).parents[1] / "fixtures" / "result.v1.json").read_text())
    data["distiller"]["config"]["api_key"] = data["config"]["algo"]["api_key"] = "short1"
    assert "short1" not in json.dumps(published(Record.from_json(data)).to_json())


def test_a_runs_folder_can_be_verified_without_any_suite(run, capsys):
    assert called("verify", run, "--quiet") == 0
    assert "verified (8 of 8" in capsys.readouterr().out
    assert json.loads((run / "verification.json").read_text())["checks"][0]["result"] == "verified"


def test_another_platform_asks_for_the_mean_of_five_networks(run, claim, capsys):
    change(claim, "record", "environment", "numerics", "torch", to="2.4.0")
    assert called("verify", claim, "--quiet") == 0
    assert "reproduced within tolerance (8 of 8 accuracies to the bit, another platform)" in capsys.readouterr().out
    assert checks(claim)[-1]["same_platform"] is False


def test_a_changed_claim_starts_its_history_anew(claim):
    assert called("verify", claim, "--level", "static") == 0
    change(claim, "notes", to="said later")
    assert called("verify", claim, "--level", "static") == 0
    assert len(checks(claim)) == 1


# --- what cannot be submitted -----------------------------------------------------------------------------------------


def test_every_reason_is_told_at_once_and_nothing_is_written(run, tmp_path, capsys):
    change(run / "result.json", "selection", to="best-on-test")
    change(run / "result.json", "config", "seed", to=4)
    assert called("submit", run, *ME, "--registry", tmp_path / "registry", "--suite", "tiny.v1") == 2
    told = capsys.readouterr().err
    for fault in ("seed is 4, not 0", "only the last iterate may be scored", "has no row of seed 4000"):
        assert fault in told
    assert not (tmp_path / "registry").exists()


def test_a_claim_is_never_overwritten(run, claim, tmp_path, capsys):
    assert called("submit", run, *ME, "--registry", tmp_path / "registry") == 2
    assert "a claim is never overwritten" in capsys.readouterr().err


def test_a_run_that_meets_no_suite_is_told_what_each_asks_for(run, tmp_path, capsys):
    change(run / "result.json", "config", "ipc", to=7)
    assert called("submit", run, *ME, "--registry", tmp_path) == 2
    assert "meets no suite's conditions" in (told := capsys.readouterr().err)
    assert "tiny.v1, the nearest: ipc is 7, not 1" in told


def test_an_address_that_is_none_is_refused(run, tmp_path, capsys):
    assert called("submit", run, *ME, "--code", "javascript:alert(1)", "--registry", tmp_path / "r") == 2
    assert "code: " in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_an_artifact_elsewhere_is_never_fetched(run, tmp_path, capsys):
    assert called("submit", run, *ME, "--url", "https://example.org/a", "--registry", tmp_path / "r") == 0
    claim = tmp_path / "r" / "submissions" / "tiny.v1" / f"{SLUG}.json"
    assert not claim.with_suffix(".safetensors").exists()
    refused(capsys, claim, "it lies elsewhere (https://example.org/a); fetch it and give --artifact FILE")
    assert called("verify", claim, "--level", "static", "--artifact", run / "distilled.safetensors") == 0


# --- what was changed -------------------------------------------------------------------------------------------------


def test_one_byte_of_the_artifact(claim, capsys):
    path = claim.with_suffix(".safetensors")
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    refused(capsys, claim, "artifact: ", "content does not match its hash")


def test_another_artifact_of_the_same_form(claim, tmp_path, capsys):
    again = tmp_path / "again"
    assert called(*tiny_suite.RUN.split(), "--seed", "1", "--out", again) == 0
    capsys.readouterr()
    shutil.copy(again / "distilled.safetensors", claim.with_suffix(".safetensors"))
    refused(capsys, claim, "artifact.sha256: ")


def test_an_accuracy_raised_by_two_points(claim, capsys):
    change(claim, "record", "scores", 0, "accuracy", to=lambda a: a + 0.02)
    refused(capsys, claim, "summary: not what the rows of scores give")


def test_an_accuracy_raised_with_everything_that_follows_from_it(claim, capsys):

    images = json.loads(claim.read_text())["record"]["dataset"]["test_size"]
    tree = change(claim, "record", "scores", 0, "accuracy", to=lambda a: round(a * images + 0.02 * images) / images)
    record = tree["record"]
    change(claim, "record", "summary", to=as_json(summarise(rows_of(record))))
    for name, entry in record["controls"].items():
        change(claim, "record", "controls", name, "gain", to=as_json(gains(rows_of(record), rows_of(entry))))
    assert called("verify", claim, "--level", "static") == 0, "nothing static contradicts it"
    capsys.readouterr()
    told = refused(capsys, claim, "convnet_d1, seed 0: ", "claimed", "found", level="full")
    assert "failed (7 of 8 accuracies to the bit, the same platform)" in told


def test_controls_made_weaker_with_everything_that_follows_from_it(claim, capsys):
    """A gain is what a claim is about: the networks that it is taken over are trained again too."""
    tree = json.loads(claim.read_text())
    record, control = tree["record"], tree["record"]["controls"]["random-codes"]
    lower = [Score(**{**row, "accuracy": max(0.0, row["accuracy"] - 7 / 359)}) for row in control["scores"]]
    control["scores"], control["summary"] = [row.to_json() for row in lower], as_json(summarise(lower))
    control["gain"] = as_json(gains([Score(**row) for row in record["scores"]], lower))
    claim.write_text(json.dumps(tree))
    assert called("verify", claim, "--level", "static", "--quiet") == 0
    told = refused(capsys, claim, "failed (6 of 8 accuracies to the bit", level="full")
    assert f"random-codes: convnet_d1, seed 0: {lower[0].accuracy:.4f} claimed," in told
    assert [row["control"] for row in checks(claim)[-1]["rows"]][:3] == [None, None, "random-codes"]


def test_a_control_that_no_such_run_has(claim, capsys):
    tree = json.loads(claim.read_text())
    tree["record"]["controls"]["random-noise"] = tree["record"]["controls"]["random-codes"]
    claim.write_text(json.dumps(tree))
    refused(capsys, claim, "controls.'random-noise': such a run has no baseline of that name")


def rows_of(entry):
    return [Score.from_json(row) for row in entry["scores"]]


def as_json(found):
    return {name: one.to_json() for name, one in found.items()}


def consistent(tree):
    """Summaries and gains as the changed rows give them."""
    record = tree["record"]
    own = [Score(**row) for row in record["scores"]]
    record["summary"] = as_json(summarise(own))
    for control in record["controls"].values():
        rows = [Score(**row) for row in control.get("scores", [])]
        control |= {"summary": as_json(summarise(rows)), "gain": as_json(gains(own, rows))} if rows else {}
    return tree


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda r: r["controls"]["random-codes"]["scores"].pop(),
            "has no row of seed 1",
        ),
        (
            lambda r: r["controls"].pop("random-codes"),
            "every method stands beside its baselines",
        ),
    ],
)
def test_controls_that_were_picked(claim, capsys, spoil, says):
    tree = json.loads(claim.read_text())
    spoil(tree["record"])
    claim.write_text(json.dumps(consistent(tree)))
    refused(capsys, claim, says, level="full")


def test_a_budget_that_is_not_the_configurations(claim, capsys):
    change(claim, "record", "config", "precision", to="fp32")
    refused(capsys, claim, "budget.precision: int8, but config.precision is fp32")


def test_a_dataset_is_the_callers_to_name(claim, capsys):
    change(claim, "record", "dataset", "options", to=lambda options: {**options, "name": "/etc"})
    change(claim, "record", "config", "dataset", to=lambda options: {**options, "name": "/etc"})
    refused(capsys, claim, "dataset.options")


def test_another_platforms_tolerance_is_not_the_claims_to_widen(claim, capsys):
    def widened(rows):
        return [{**row, "accuracy": n / 359} for row, n in zip(rows, (2, 300), strict=True)]

    change(claim, "record", "environment", "numerics", "torch", to="0.1")
    change(claim, "record", "scores", to=widened)
    claim.write_text(json.dumps(consistent(json.loads(claim.read_text()))))
    refused(capsys, claim, "convnet_d1: 0.4206 claimed", level="full")


def test_a_decoder_for_a_codec_that_learns_nothing_is_refused(run):
    stored = load_artifact(run / "distilled.safetensors")
    trojan = replace(stored, codec_state={"decoder.weight": torch.zeros(2, 2)})
    save_artifact(trojan, run / "trojan.safetensors")
    with pytest.raises(ArtifactError, match="learns nothing from data, but the artifact brings tensors"):
        load_artifact(run / "trojan.safetensors").decode()


def test_a_fitted_decoder_comes_out_again(made, tmp_path, capsys):
    words = tiny_suite.RUN.replace("dct", "pca").replace("dm algo.iterations=2 algo.batch_real=8", "random")
    assert called(*words.split(), "--out", tmp_path / "pca") == 0
    assert called("verify", tmp_path / "pca", "--quiet") == 0
    path = tmp_path / "pca" / "distilled.safetensors"
    stored = load_artifact(path)
    save_artifact(replace(stored, codec_state={k: 1.01 * v for k, v in stored.codec_state.items()}), path)
    record = json.loads((tmp_path / "pca" / "result.json").read_text())
    record["artifact"] |= {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    record["budget"]["bytes"]["file"] = path.stat().st_size
    (tmp_path / "pca" / "result.json").write_text(json.dumps(record))
    assert called("verify", tmp_path / "pca", "--quiet") == 1
    assert "the decoder in the artifact does not belong to its fingerprint" in capsys.readouterr().out


def test_an_evaluator_in_a_file_is_not_run(run, tmp_path, capsys):
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')\n")
    named = f"{tmp_path}/evil.py:Evil"
    tree = {"record": json.loads((run / "result.json").read_text())}
    for entry in (tree["record"], *tree["record"]["controls"].values()):
        entry["config"]["evaluators"] = [named]
        entry["scores"] = [{**row, "evaluator": named} for row in entry["scores"]]
    (run / "result.json").write_text(json.dumps(consistent(tree)["record"]))
    assert called("verify", run, "--quiet") == 2
    told = "".join(capsys.readouterr())
    assert f"evaluator {named!r}: code that a record names is not run" in told
    assert "it ran" not in told


def test_the_protocols_steps(claim, capsys):
    change(claim, "record", "protocol", "steps", to=[[32, 300]])
    refused(capsys, claim, "protocol.steps: [[32, 300]], but tiny.test has [[32, 3]]")


def test_the_budget(claim, capsys):
    spent = ("record", "budget", "bytes")
    change(claim, *spent, "codes", to=lambda n: n - 100)
    change(claim, *spent, "total", to=lambda n: n - 100)
    change(claim, *spent, "total_with_decoder", to=lambda n: n - 100)
    refused(capsys, claim, "budget.bytes.codes: 2,460 claimed, the artifact has 2,560")


def test_a_larger_budget_than_the_suites(claim, capsys):
    change(claim, "record", "budget", "bytes_per_class", to=1024)
    refused(capsys, claim, "budget.bytes_per_class: 1,024, but ipc=1 is 256 bytes")


def test_the_suites_version(claim, tiny_suites, capsys):
    change(claim, "suite_sha256", to="0" * 64)
    refused(capsys, claim, "suite_sha256: made under another tiny.v1 (000000000000…)")


def test_the_suites_content(claim, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "changed"
    folder.mkdir()
    tiny_suite.written(folder, seed=3)
    monkeypatch.setattr(suites, "folder", lambda: folder)
    refused(capsys, claim, "tiny.v1: seed is 0, not 3", "suite_sha256: made under another tiny.v1")


def test_a_suite_that_nobody_knows(claim, capsys):
    folder = claim.parent.parent / "other.v9"
    shutil.copytree(claim.parent, folder)
    change(folder / claim.name, "suite", to="other.v9")
    refused(capsys, folder / claim.name, "there is no suite 'other.v9'")


def test_a_row_left_out(claim, capsys):
    change(claim, "record", "scores", to=lambda rows: rows[:1])
    refused(capsys, claim, "summary: not what the rows of scores give")


def test_decoder_weights_that_have_seen_nothing(claim, capsys):
    change(claim, "record", "codec", "decoder_bytes", to=10)
    refused(capsys, claim, "codec.trained_on: dct has weights; say what data they have seen")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "x/y.safetensors", ".hidden"])
def test_paths_stay_in_the_registry(claim, capsys, name):
    change(claim, "artifact", "file", to=name)
    refused(capsys, claim, "artifact.file: ")


def test_a_link_out_of_the_registry(claim, run, capsys):
    path = claim.with_suffix(".safetensors")
    path.unlink()
    path.symlink_to(run / "distilled.safetensors")
    refused(capsys, claim, "is a link")


def test_no_code_that_a_submission_names_is_run(claim, tmp_path, monkeypatch, capsys):
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    change(claim, "record", "codec", "name", to="evil:Codec")
    change(claim, "record", "config", "codec", to={"name": "./evil.py:Codec"})
    refused(capsys, claim, "codec.name: evil:Codec claimed, the artifact has dct")
    assert "evil" not in __import__("sys").modules


def test_nan_and_infinity_are_no_numbers(claim, capsys):
    claim.write_text(claim.read_text().replace('"accuracy": ', '"accuracy": NaN, "was": ', 1))
    refused(capsys, claim, "not readable as JSON")


def test_all_goes_on_after_a_failure(claim, tmp_path, capsys):
    other = claim.with_name("b.json")
    shutil.copy(claim, other)
    change(other, "record", "selection", to="best")
    assert called("verify", "--all", "--registry", tmp_path / "registry", "--level", "static") == 1
    told = capsys.readouterr().out
    assert f"{claim}: static checks passed" in told
    assert f"{other}: failed" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("verify", "name the folder of a run"),
        ("verify nothing", "nothing: there is no such file or folder"),
        ("verify --all --registry nowhere", "nowhere is not a folder"),
        ("verify --all --registry . x colour=red", "give no path beside it"),
        ("submit nothing --name a --contact b", "nothing is not the folder of a finished run"),
    ],
)
def test_faults_of_the_command_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert called(*words.split()) == 2
    assert says in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_canonical_or_not_a_claim_is_read(claim):
    claim.write_text(canonical_json(json.loads(claim.read_text())))
    assert called("verify", claim, "--level", "static") == 0


def test_an_imported_set_is_submitted_and_verified_and_shown_without_a_rank(tiny_suites, tmp_path):
    digits = tiny.digits().train
    rows = torch.stack([(digits.labels == label).nonzero()[3, 0] for label in range(10)])
    torch.save({"data": [[digits.pixels[rows].float() / 255, digits.labels[rows]]]}, tmp_path / "res_DM_x_1ipc.pt")
    words = ("--values", "none", "--dataset", "digits", "--out", tmp_path / "in")
    assert called("import", "dc", tmp_path / "res_DM_x_1ipc.pt", *words) == 0
    method = f"imported algo.path={tmp_path / 'in'}"
    command = tiny_suite.RUN.replace("dm algo.iterations=2 algo.batch_real=8", method).replace("dct", "identity")
    assert called(*command.replace("int8", "fp32").split(), "--out", tmp_path / "run") == 0
    assert called("submit", tmp_path / "run", *ME, "--registry", tmp_path / "registry") == 0
    (path,) = (tmp_path / "registry").glob("submissions/*/*.json")
    assert called("verify", path, "--quiet") == 0
    (entry,) = table.entries(registry.read(tmp_path / "registry").submissions)
    assert (entry.status, entry.ranked) == ("verified", False)
    assert str(tmp_path) not in path.read_text()


def test_only_an_imported_set_may_leave_its_selection_open(claim, capsys):
    change(claim, "record", "selection", to="unknown")
    refused(capsys, claim, "only the last iterate may be scored")


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    ["", "artifact", "grid", "record", "record.dataset", "record.codec", "record.distiller", "record.budget",
     "record.budget.bytes", "record.config", "record.config.algo", "record.config.codec", "record.scores.0",
     "record.controls.random-codes", "record.controls.random-codes.codec",
     "record.environment", "record.environment.numerics", "record.cost", "record.seeds", "record.protocol"],
)  # fmt: skip
def test_a_key_that_no_check_reads_is_refused(claim, capsys, place):
    keys = [int(key) if key.isdigit() else key for key in place.split(".") if key]
    change(claim, *keys, "award", to=1)
    refused(capsys, claim, "award")


@pytest.mark.parametrize(
    "place",
    [
        "codec.grey",
        "codec.source",
        "codec.spatial",
        "dataset.revision",
        "dataset.validation_size",
        "environment.cpu",
        "budget.shortfall",
    ],
)
def test_a_key_that_every_run_writes_may_not_be_left_out(claim, capsys, place):
    tree = json.loads(claim.read_text())
    part, key = place.split(".")
    del tree["record"][part][key]
    claim.write_text(json.dumps(tree))
    refused(capsys, claim, f"record.{place}: missing")


@pytest.mark.parametrize("keys", [["scores"], ["controls", "random-pixels", "scores"]])
def test_rows_in_another_order_are_refused(claim, capsys, keys):
    change(claim, "record", *keys, to=lambda rows: rows[::-1])
    refused(capsys, claim, "scores: rows must be in the order of evaluators and seeds")


@pytest.mark.parametrize("losses", [[[9, 1.0], [3, 0.5]], [[1, 0.5], [1, 0.4]], [[n, 1.0] for n in range(201)]])
def test_a_curve_that_no_run_writes_is_refused_and_harms_no_page(claim, tmp_path, capsys, losses):
    change(claim, "record", "losses", to=losses)
    assert called("leaderboard", "--registry", tmp_path / "registry", "--out", tmp_path / "site") == 0
    refused(capsys, claim, "losses: ")
