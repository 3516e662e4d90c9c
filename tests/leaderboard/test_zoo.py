"""Sets by name, from a registry, a folder, an address and a hub that speaks the real interface."""

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub
from huggingface_hub import constants
from torch.utils.data import DataLoader

from latentdd_plugin import Artifact, describe_run, list_distilled, load_artifact, load_distilled, save_artifact
from latentdd_plugin.artifacts.hub import pull_folder, pull_set, push_codec, push_teacher
from latentdd_plugin.cli import main
from latentdd_plugin.codecs import weight_files
from latentdd_plugin.core.errors import ArtifactError, UsageError
from latentdd_plugin.core.hub_files import push
from latentdd_plugin.leaderboard import registry, zoo
from latentdd_plugin.nn.architectures import build
from latentdd_plugin.nn.teacher import CARD, WEIGHTS, Teacher, load_teacher

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's own upload
REGISTRY = Path(__file__).parents[2] / "registry"
NAME = "cifar10/dct-dm-int8-ipc1"
REPO = "ada/digits-dm"
VAE = Path(weight_files.__file__).parent / "weights" / "tiny-vae-f4"


def send_to(url, monkeypatch):
    """Do what HF_ENDPOINT does when the library is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub, to which the library is sent; large files go over HTTP."""
    found = FakeHub()
    send_to(found.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield found
    found.close()


def same(ours, theirs):
    return torch.equal(ours.codes, theirs.codes) and torch.equal(ours.labels, theirs.labels)


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_of_the_registry_gives_the_artifact_that_was_submitted():
    stored = next((REGISTRY / "submissions" / "cifar10-ipc.v1").glob("*-dct-dm-int8.safetensors"))
    assert same(load_distilled(NAME), load_artifact(stored))
    about = next(one for one in list_distilled() if one.name == NAME)
    assert about.sha256 == hashlib.sha256(stored.read_bytes()).hexdigest()
    assert (about.file_bytes, about.images, about.budget_bytes) == (stored.stat().st_size, 160, 122_880)
    assert about.classes[3] == "cat"
    assert (about.method, about.codec, about.precision, about.labels) == ("dm", "dct", "int8", "hard")
    claimed = json.loads(stored.with_suffix(".json").read_text())["record"]["summary"]["convnet"]["mean"]
    assert [(s.evaluator, s.protocol, s.mean) for s in about.scores] == [("convnet", "quick.v1", claimed)]


def test_every_set_of_the_registry_has_a_name_of_its_own():
    names = [one.name for one in list_distilled(REGISTRY)]
    found = registry.read(REGISTRY).submissions
    assert len(set(names)) == len(names) == sum(one.artifact is not None for one in found)


def test_three_lines_to_a_data_loader():
    loader = DataLoader(load_distilled(NAME).to_torch(), batch_size=128, shuffle=True)
    images, labels = next(iter(loader))
    assert (images.shape, labels.shape) == ((128, 3, 32, 32), (128,))
    assert images.dtype == torch.float32
    assert 0 <= float(images.min()) < float(images.max()) <= 1


def test_a_second_set_of_the_same_kind_gets_its_submitters_name(filled):
    names = [one.name for one in list_distilled(filled)]
    assert "digits/dct-dm-int8-ipc1" in names
    assert "digits/dct-dm-int8-ipc1-by-a-changed" in names
    assert len(set(names)) == len(names) == 7


def test_an_unknown_name_says_what_is_near_and_where_sets_come_from(tmp_path):
    with pytest.raises(UsageError, match=re.escape(NAME)) as error:
        load_distilled("cifar10/dct-dm-int8")
    assert "hub:user/set" in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"an installed package carries none\. Sets come from a checkout's registry"):
        load_distilled(NAME, source=tmp_path / "empty")


# --- folders and addresses ---


def test_a_folder_of_runs_is_a_zoo(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "runs" / "mine")
    (about,) = list_distilled(tmp_path / "runs")
    assert about.name == "mine"
    assert about.method == "dm"
    assert about.scores[0].protocol == "tiny.test"
    assert about.scores == describe_run(made).scores
    assert same(load_distilled("mine", source=tmp_path / "runs"), load_artifact(made / "distilled.safetensors"))
    assert same(load_distilled(made), load_artifact(made / "distilled.safetensors"))
    assert main.main(["zoo", "list", "--source", str(tmp_path / "runs")]) == 0
    assert "mine" in capsys.readouterr().out


@pytest.fixture
def web(made):
    """The address of a folder that a plain server shows."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(made))
    handler.log_message = None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_needs_the_hash_and_is_refused_without_it(made, web, tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))
    url, right = (
        f"{web}/distilled.safetensors",
        hashlib.sha256((made / "distilled.safetensors").read_bytes()).hexdigest(),
    )
    with pytest.raises(UsageError, match="give its sha256"):
        load_distilled(url)
    with pytest.raises(ArtifactError, match="changed or damaged on its way"):
        load_distilled(url, sha256="0" * 64)
    assert list((tmp_path / "cache" / "zoo").iterdir()) == []
    assert same(load_distilled(url, sha256=right), load_artifact(made / "distilled.safetensors"))
    with pytest.raises(UsageError, match="404"):
        load_distilled(f"{web}/none", sha256="1" * 64)
    monkeypatch.setattr(zoo, "LARGEST", 100)
    with pytest.raises(UsageError, match="more than 100 bytes"):
        load_distilled(url, sha256="1" * 64)


# --- the hub ---


def test_push_list_and_pull_at_a_revision(hub, made, tmp_path, capsys):
    first = load_artifact(made / "distilled.safetensors")
    commit = first.push_to_hub(REPO, describe_run(made, REPO), licence="cc-by-4.0")
    hub.tag(REPO, "v1", commit)
    other = load_distilled("digits/dct-random-int8-ipc1")
    second = other.push_to_hub(REPO)
    assert commit != second
    assert same(Artifact.from_pretrained(REPO), other)
    assert same(Artifact.from_pretrained(REPO, revision="v1"), first)
    assert same(Artifact.from_pretrained(REPO, revision=commit), first)
    assert same(load_distilled(f"hub:{REPO}", revision="v1"), first)
    about = pull_set(REPO, "v1")[1]
    assert (about.method, about.licence, about.classes) == ("dm", "cc-by-4.0", first.classes)
    assert about.scores == describe_run(made).scores
    assert main.main(["zoo", "list", "--hub", "--author", "ada"]) == 0
    assert capsys.readouterr().out == f"set  hub:{REPO}\n"
    assert ("POST", f"/datasets/{REPO}.git/info/lfs/objects/batch") in hub.asked


def test_the_card_tells_a_reader_what_it_is(hub, made):
    artifact = load_artifact(made / "distilled.safetensors")
    artifact.push_to_hub(REPO, describe_run(made, REPO), licence="cc-by-4.0")
    card = hub.files(REPO)["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert f'Artifact.from_pretrained("{REPO}")' in card
    assert "| classes, in label order | 0 0, 1 1, 2 2" in card
    assert "| values | images in \\[0, 1\\], not clamped |" in card
    assert "tiny.test" in card
    manifest = json.loads(hub.files(REPO)["dd-bench.json"])
    stored = hub.files(REPO)["distilled.safetensors"]
    assert manifest["files"] == {"distilled.safetensors": hashlib.sha256(stored).hexdigest()}
    assert str(made) not in card + json.dumps(manifest)


def test_a_damaged_download_is_refused_and_the_next_one_is_right(hub, made):
    artifact = load_artifact(made / "distilled.safetensors")
    artifact.push_to_hub(REPO)
    hub.damaged.add("distilled.safetensors")
    with pytest.raises(ArtifactError, match="changed or damaged on its way"):
        Artifact.from_pretrained(REPO)
    hub.damaged.clear()
    assert same(Artifact.from_pretrained(REPO), artifact)


def test_a_description_of_another_set_is_refused(hub, made, tmp_path):
    artifact = load_artifact(made / "distilled.safetensors")
    artifact.push_to_hub(REPO, artifact.describe(REPO, classes=artifact.classes[::-1]))
    with pytest.raises(ArtifactError, match=r"does not fit the set \(classes\)"):
        Artifact.from_pretrained(REPO)


def test_without_a_network_there_is_one_clear_sentence(hub, made, monkeypatch):
    artifact = load_artifact(made / "distilled.safetensors")
    artifact.push_to_hub(REPO)
    assert same(Artifact.from_pretrained(REPO), artifact)
    send_to("http://127.0.0.1:9", monkeypatch)
    assert same(Artifact.from_pretrained(REPO), artifact)  # out of the cache
    with pytest.raises(
        UsageError, match=r"some/other \(revision main\) is not on this machine and http\S+ does not answer"
    ):
        Artifact.from_pretrained("some/other")
    with pytest.raises(UsageError, match=r"cannot be pushed: http\S+ does not answer"):
        artifact.push_to_hub(REPO)


def test_what_the_hub_lacks_is_said(hub, made):
    with pytest.raises(UsageError, match="there is no repository"):
        Artifact.from_pretrained("some/other")
    load_artifact(made / "distilled.safetensors").push_to_hub(REPO)
    with pytest.raises(UsageError, match="has no revision 'v9'"):
        Artifact.from_pretrained(REPO, revision="v9")
    with pytest.raises(UsageError, match="not a repository's name"):
        Artifact.from_pretrained("a/b/c")


def test_a_trained_codec_goes_the_same_way(hub, tmp_path):
    push_codec(VAE, "ada/vae")
    sent = hub.files("ada/vae", "models")
    assert json.loads(sent["training.json"])["trained_on"] == ["cifar10", "imagenette128"]
    assert b"shared" not in sent["training.json"] + sent["README.md"]
    found = pull_folder("ada/vae", "codec", tmp_path / "vae")
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "vae" / name).read_bytes() == (VAE / name).read_bytes()
    assert re.fullmatch("[0-9a-f]{40}", found.commit)
    with pytest.raises(UsageError, match="there is no repository"):
        Artifact.from_pretrained("ada/vae")


def pets_teacher(seed):
    """A teacher of two classes, with random weights."""
    torch.manual_seed(seed)
    network, arch, kwargs = build("convnet_d1", (3, 8, 8), 2)
    about = {"classes": ("cat", "dog"), "input_shape": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return Teacher.of((network,), arch=arch, kwargs=kwargs, trained_on=("pets",), recipe="teacher.v1", **about)


def test_a_teacher_goes_the_same_way(hub, tmp_path, capsys):
    teacher = pets_teacher(0)
    teacher.save(tmp_path / "made")
    push_codec(VAE, "ada/vae")
    assert main.main(["zoo", "push", str(tmp_path / "made"), "ada/teacher", "--licence", "cc0-1.0"]) == 0
    card = hub.files("ada/teacher", "models")["README.md"].decode()
    assert "cat, dog" in card
    assert "Trained on: pets" in card
    capsys.readouterr()
    assert main.main(["zoo", "list", "--author", "ada"]) == 0
    assert sorted(capsys.readouterr().out.split()) == ["codec", "hub:ada/teacher", "hub:ada/vae", "teacher"]
    again = tmp_path / "again"
    assert main.main(["zoo", "get", "hub:ada/teacher", "--teacher", "--out", str(again)]) == 0
    assert load_teacher(again).card == teacher.card
    assert main.main(["zoo", "get", "hub:ada/teacher", "--codec", "--out", str(tmp_path / "codec")]) == 2
    assert "holds a teacher, not a codec" in capsys.readouterr().err


def test_a_published_teacher_with_other_weights_is_not_kept(hub, tmp_path):
    """Its files match the manifest, and the weights do not match the card."""
    for name, seed in (("made", 0), ("other", 1)):
        pets_teacher(seed).save(tmp_path / name)
    shutil.copyfile(tmp_path / "other" / WEIGHTS, tmp_path / "made" / WEIGHTS)
    with pytest.raises(UsageError, match="do not match the sha256"):
        push_teacher(tmp_path / "made", "ada/teacher")
    files = {name: tmp_path / "made" / name for name in (CARD, WEIGHTS)}
    push("ada/teacher", "teacher", files, "---\nlicense: other\n---\n", {})
    with pytest.raises(UsageError, match="do not match the sha256"):
        pull_folder("ada/teacher", "teacher", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_command_line_does_it_with_the_environment_alone(hub, made, tmp_path):
    """HF_ENDPOINT, as a user would set it."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    env |= {"HF_HUB_OFFLINE": "0"}  # it may be set where the tests run
    words = [sys.executable, "-m", "latentdd_plugin", "zoo"]

    def zoo(*more):
        return subprocess.run([*words, *map(str, more)], env=env, capture_output=True, text=True, check=False)

    pushed = zoo("push", made, REPO, "--licence", "cc0-1.0")
    assert (pushed.returncode, pushed.stderr) == (0, "")
    assert "licence" in zoo("show", f"hub:{REPO}").stdout
    out = tmp_path / "set.safetensors"
    got = zoo("get", f"hub:{REPO}", "--out", out)
    assert (got.returncode, got.stderr) == (0, "")
    assert out.read_bytes() == (made / "distilled.safetensors").read_bytes()


def test_get_never_overwrites(made, tmp_path, capsys):
    out = tmp_path / "set.safetensors"
    save_artifact(load_artifact(made / "distilled.safetensors"), out)
    assert main.main(["zoo", "get", NAME, "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main.main(["zoo", "get"]) == 2
    assert "zoo get takes 1 name" in capsys.readouterr().err


def test_show_of_a_name_is_all_that_one_must_know(capsys):
    assert main.main(["zoo", "show", NAME]) == 0
    told = capsys.readouterr().out
    for text in (
        "3 cat",
        "images in [0, 1]",
        "125,312 bytes",
        "45.7% ± 0.3 (convnet, quick.v1, test, 3 seeds)",
        "licence",
    ):
        assert text in told
    assert zoo.find(NAME).about.verification in told
