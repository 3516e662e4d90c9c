"""Untrusted files, damaged or made up: only the package's own errors, nothing written elsewhere, no great memory."""

import json
import math
import resource
import shutil
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutation import DAMAGE, JSON, PLACE, damaged, replaced
from PIL import Image
from safetensors.torch import save_file

from latentdd_plugin.artifacts.exchange import export_set, import_set
from latentdd_plugin.artifacts.file import ARTIFACT, KEY, _content_hash, _tensors, load_artifact, save_artifact
from latentdd_plugin.artifacts.formats.base import ExternalSet, ImportOptions
from latentdd_plugin.artifacts.formats.incoming import to_artifact
from latentdd_plugin.core.errors import DDBenchError, UsageError
from latentdd_plugin.core.types import canonical_json
from latentdd_plugin.experiments import suites
from latentdd_plugin.leaderboard import registry
from latentdd_plugin.leaderboard import static_check as claims
from latentdd_plugin.leaderboard.site import build
from latentdd_plugin.results.record import Record

FIXTURES = Path(__file__).parents[1] / "fixtures"
REGISTRY = Path(__file__).parents[2] / "registry"
ENTRY = REGISTRY / "submissions" / "cpu-digits.v1" / "latentdd-plugin-digits-ipc1-dct-dm-fp32.json"
ALLOWED_MB = 600  # more than this above the start is a great memory
CLASSES = ("a", "b", "c")


def sound(kind="hard"):
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(2)
    if kind != "hard":
        labels = torch.randn(6, 3, generator=g)
    return ExternalSet(torch.rand(6, 3, 4, 4, generator=g), labels, kind, None, CLASSES)


def make_record(folder):
    shutil.copy(FIXTURES / "result.v1.json", folder / "result.json")


def make_artifact(folder):
    shutil.copy(FIXTURES / "artifact.v1.safetensors", folder / ARTIFACT)


def make_tokens(folder):
    shutil.copy(FIXTURES / "codecs" / "vq-tokens.safetensors", folder / ARTIFACT)


def make_coded_tokens(folder):
    shutil.copy(FIXTURES / "codecs" / "vq-coded.safetensors", folder / ARTIFACT)


def make_dc(folder):
    given_ = sound()
    accuracies = {"ConvNet": [np.float64(0.5)]}
    torch.save({"data": [[given_.images, given_.labels]], "accs_all_exps": accuracies}, folder / "res_DM_x_2ipc.pt")


def make_mtt(folder):
    given_ = sound("logits")
    torch.save(given_.images, folder / "images_best.pt")
    torch.save(given_.labels, folder / "labels_best.pt")
    torch.save(torch.tensor(0.01), folder / "lr_best.pt")


def make_kip(folder):
    (folder / "IPC2").mkdir()
    images = sound().images.permute(0, 2, 3, 1).contiguous().numpy()
    np.savez(folder / "IPC2" / "kip.npz", images=images, labels=np.eye(3, dtype=np.float32).repeat(2, 0))


def make_exported(name, space):
    def make(folder):
        with tempfile.TemporaryDirectory() as made:
            save_artifact(to_artifact(sound(), ImportOptions(values="none"), folder, "test"), Path(made) / ARTIFACT)
            export_set(name, made, folder, space=space)

    return make


def load_stored(folder, out):
    stored = load_artifact(folder / ARTIFACT)
    assert stored.codes.shape == stored.packed.shape
    stored.bytes(0, 0)


def load_record(folder, out):
    Record.load(folder)


def load_as(name, below=""):
    def load(folder, out):
        import_set(name, folder / below, out / "made", ImportOptions(values="none" if name not in OWN else None))

    return load


def make_registry(folder):
    """One real entry with its check, and one codec's card."""
    for path in (*ENTRY.parent.glob(f"{ENTRY.stem}*"), *REGISTRY.glob("codecs/dct/cifar10.*")):
        into = folder / path.relative_to(REGISTRY)
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, into)


def load_registry(folder, out):
    """Read, show and check all that can be read."""
    if not folder.joinpath("submissions").is_dir():
        return
    build(folder, out / "made")
    for path in claims.all_in(folder):
        try:
            claim = claims.load(path)
        except DDBenchError as error:
            assert str(error)
            continue
        claims.static_faults(claim, [])


def make_suite(folder):
    shutil.copy(suites.folder() / "cpu-digits.v1.yaml", folder)


def load_suite(folder, out):
    for path in folder.glob("*.yaml"):
        suites.get(str(path)).cells()


OWN = ("ddranking", "imagefolder", "huggingface")
LOADERS = {
    "record": (make_record, load_record),
    "artifact": (make_artifact, load_stored),
    "tokens": (make_tokens, load_stored),
    "coded tokens": (make_coded_tokens, load_stored),
    "registry": (make_registry, load_registry),
    "suite": (make_suite, load_suite),
    "dc": (make_dc, load_as("dc")),
    "mtt": (make_mtt, load_as("mtt")),
    "dc-bench": (make_kip, load_as("dc-bench", "IPC2")),
    "ddranking": (make_exported("ddranking", "ddranking-cifar10"), load_as("ddranking")),
    "imagefolder": (make_exported("imagefolder", None), load_as("imagefolder")),
    "huggingface": (make_exported("huggingface", None), load_as("huggingface")),
    "parquet": (make_exported("huggingface", None), load_as("huggingface", "train.parquet")),
}
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A folder of sound files for each loader."""
    made = {}
    for name, (make, load) in LOADERS.items():
        made[name] = tmp_path_factory.mktemp(f"sound-{name}")
        make(made[name])
        load(made[name], tmp_path_factory.mktemp("out"))
    return made


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def holds(name, seed, damage):
    """Load a damaged copy: it is loaded, or refused in words; nothing but the target is written."""
    with tempfile.TemporaryDirectory() as top:
        folder, out = Path(top) / "in", Path(top) / "out"
        shutil.copytree(seed, folder)
        out.mkdir()
        damaged(folder, damage)
        before, peak = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}, peak_mb()
        try:
            LOADERS[name][1](folder, out)
        except DDBenchError as error:
            assert str(error)
            assert list(out.iterdir()) == [], "refused, yet something was written"
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        assert {path.name for path in Path(top).iterdir()} == {"in", "out"}
        assert {path.name for path in out.iterdir()} <= {"made"}
        assert peak_mb() - peak < ALLOWED_MB


@pytest.mark.parametrize("name", LOADERS)
def test_damage(name, seeds, tmp_path, monkeypatch):
    many(name, seeds, tmp_path, monkeypatch, settings(max_examples=40, derandomize=True, **COMMON))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_much_damage(name, seeds, tmp_path, monkeypatch):
    """Thirteen loaders, 1,200 inputs each."""
    many(name, seeds, tmp_path, monkeypatch, settings(max_examples=1200, print_blob=True, **COMMON))


def many(name, seeds, tmp_path, monkeypatch, how):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    @how
    @given(DAMAGE)
    def check(damage):
        holds(name, seeds[name], damage)

    check()
    assert list(here.iterdir()) == [], "something was written into the working folder"


# --- headers that a forger would write, with hashes that fit ----------------------------------------------------------


def forged(path, stored, header):
    tensors = _tensors(stored)
    header = {k: v for k, v in header.items() if k != "content_sha256"}
    header["content_sha256"] = _content_hash(header, tensors)
    save_file(tensors, path, metadata={KEY: canonical_json(header)})


def forging(tmp_path, how, fixture="artifact.v1"):
    stored = load_artifact(FIXTURES / f"{fixture}.safetensors")

    @how
    @given(PLACE, JSON | st.just("remove"))
    def check(place, value):
        forged(tmp_path / ARTIFACT, stored, replaced(stored.header.to_json(), place, value))
        try:
            found = load_artifact(tmp_path / ARTIFACT)
            assert found.codes.shape == found.packed.shape
            assert all(isinstance(name, str) for name in found.classes)
            found.bytes(0, 0)
            found.decode()
        except DDBenchError as error:
            assert str(error)

    check()


FORGED = ("artifact.v1", "codecs/vq-tokens", "codecs/vq-coded")


@pytest.mark.parametrize("fixture", FORGED)
def test_forged_headers(tmp_path, fixture):
    forging(tmp_path, settings(max_examples=150, derandomize=True, **COMMON), fixture)


@pytest.mark.slow
@pytest.mark.parametrize("fixture", FORGED)
def test_many_forged_headers(tmp_path, fixture):
    forging(tmp_path, settings(max_examples=2000, print_blob=True, **COMMON), fixture)


# --- claims of the right JSON, one value of which is another ----------------------------------------------------------


def claiming(tmp_path, how):
    make_registry(tmp_path)
    path = tmp_path / ENTRY.relative_to(REGISTRY)
    sound_claim = json.loads(path.read_text())

    @how
    @given(PLACE, JSON | st.just("remove"))
    def check(place, value):
        path.write_text(canonical_json(replaced(sound_claim, place, value)))
        found = registry.read(tmp_path)
        assert len(found.submissions) + len(found.faults) == 1
        for one in found.submissions:
            assert claims.static_faults(claims.load(path), []) is not None
            assert one.status in registry.STATUSES
        build(tmp_path, tmp_path.with_name("site"))

    check()


def test_changed_claims(tmp_path):
    claiming(tmp_path, settings(max_examples=60, derandomize=True, **COMMON))


@pytest.mark.slow
def test_many_changed_claims(tmp_path):
    claiming(tmp_path, settings(max_examples=2000, print_blob=True, **COMMON))


# --- single cases -----------------------------------------------------------------------------------------------------


def safetensors(path, header, body=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + body)
    return path


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SAFETENSORS = {
    "ten gigabytes of header": (b"{}", b"", 10 * 2**30),
    "all the header there can be": (b"{}", b"", 2**64 - 1),
    "an absurd shape": ({"codes": entry([2**40, 2**40], 0, 4)}, b"\0" * 4, None),
    "overflowing sides": ({"codes": entry([2**63, 2, 2], 0, 0)}, b"", None),
    "a hole": ({"codes": entry([1], 4, 8)}, b"\0" * 8, None),
    "backwards": ({"codes": entry([1], 4, 0)}, b"\0" * 4, None),
    "nesting": (b"[" * 200_000, b"", None),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_an_absurd_safetensors_file(tmp_path, case):
    peak = peak_mb()
    with pytest.raises(UsageError):
        load_artifact(safetensors(tmp_path / "a", *SAFETENSORS[case]))
    assert peak_mb() - peak < 100


def test_a_name_given_twice_is_refused(tmp_path):
    sound_file = (FIXTURES / "artifact.v1.safetensors").read_bytes()
    size = struct.unpack("<Q", sound_file[:8])[0]
    header, body = sound_file[8 : 8 + size].rstrip(), sound_file[8 + size :]
    start = header.index(b'"codes":')
    whole = header[start : header.index(b"}", start) + 1]
    twice = header[:-1] + b"," + whole + b"}"
    with pytest.raises(UsageError):
        load_artifact(safetensors(tmp_path / "a", twice, body))
    load_artifact(safetensors(tmp_path / "a", header, body))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema":' + "[" * 100_000, "\xff", "{}", "9" * 10_000])
def test_an_absurd_record(tmp_path, text):
    (tmp_path / "result.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError):
        Record.load(tmp_path)


def test_a_nested_header_is_refused(tmp_path):
    save_file({"codes": torch.zeros(1)}, tmp_path / "a", metadata={KEY: "[" * 100_000})
    with pytest.raises(UsageError):
        load_artifact(tmp_path / "a")


def test_a_storage_longer_than_its_part_is_never_read(tmp_path):
    """The pickle says 10^6 values, the archive holds a few: what lies behind is not ours to read."""
    torch.save(torch.ones(6, 3, 4, 4), tmp_path / "images_best.pt")
    torch.save(torch.arange(3).repeat_interleave(2), tmp_path / "labels_best.pt")
    file = tmp_path / "images_best.pt"
    with zipfile.ZipFile(file) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(n for n in parts if n.endswith("data.pkl"))
    short = b"M" + struct.pack("<H", 288)  # the storage's length, 6 * 3 * 4 * 4, as the pickle has it
    assert short in parts[name]
    parts[name] = parts[name].replace(short, b"J" + struct.pack("<i", 10**6))
    parts[name] = parts[name].replace(b"K\x06K\x03K\x04K\x04", b"J" + struct.pack("<i", 10**4) + b"K\x03K\x04K\x04")
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    with pytest.raises(UsageError):
        import_set("mtt", tmp_path, tmp_path / "out", ImportOptions(values="none"))


def npz(path, shape, values, compress=zipfile.ZIP_STORED):
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.float32)) | {"shape": shape}
    with zipfile.ZipFile(path, "w", compress) as archive, archive.open("images.npy", "w") as part:
        np.lib.format.write_array_header_1_0(part, header)
        part.write(values)


STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    ("shape", "compress"),
    [((10**6, 32, 32, 3), STORED), ((10**12, 10**12, 1), STORED), ((4096, 4096), DEFLATED)],
)
def test_a_lying_npz(tmp_path, shape, compress):
    (tmp_path / "IPC2").mkdir()
    values = b"\0" * (4 * math.prod(shape) if compress == DEFLATED else 64)
    npz(tmp_path / "IPC2" / "kip.npz", shape, values, compress)
    with pytest.raises(UsageError, match="claims"):
        import_set("dc-bench", tmp_path / "IPC2", tmp_path / "out", ImportOptions(values="none"))


def test_a_picture_that_unpacks_to_gigabytes(tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    file = tmp_path / "in" / "a" / "0.png"
    Image.new("L", (4, 4)).save(file)
    data = file.read_bytes()
    huge = data[:16] + struct.pack(">II", 2**17, 2**17) + data[24:]
    import zlib

    file.write_bytes(huge[:29] + struct.pack(">I", zlib.crc32(huge[12:29])) + huge[33:])
    peak = peak_mb()
    with pytest.raises(UsageError, match="too large"):
        import_set("imagefolder", tmp_path / "in", tmp_path / "out")
    assert peak_mb() - peak < 100


@pytest.mark.parametrize("name", ["../../secret.arrow", "/etc/passwd", "..", ""])
def test_a_data_set_names_no_files_elsewhere(tmp_path, name):
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(UsageError, match="names without folders are needed"):
        import_set("huggingface", tmp_path, tmp_path / "out")
