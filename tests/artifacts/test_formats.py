"""Every format out and in again gives the same pixels to its own precision; foreign files load as they were made."""

import json
import os
import zipfile

import numpy as np
import pytest
import tiny
import torch
import yaml
from PIL import Image

from latentdd_plugin import load_artifact
from latentdd_plugin.artifacts import formats
from latentdd_plugin.artifacts.exchange import export_set, import_set
from latentdd_plugin.artifacts.file import ARTIFACT, save_artifact
from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ExternalSet, ImportOptions
from latentdd_plugin.artifacts.formats.incoming import to_artifact
from latentdd_plugin.cli import main
from latentdd_plugin.core.errors import ArtifactError, UsageError

CLASSES = ("bee", "ant", "cat")
IPC = 4
FLOAT = 1e-6  # of the largest value
SPACES = {"dc": "dc-cifar10", "mtt": "mtt-cifar10", "ddranking": "ddranking-cifar10"}
PLAIN = {"imagefolder": None, "huggingface": None}


def foreign(*, kind="hard", lr=None, channels=3, seed=0):
    """A class-sorted set in a normalised space."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(CLASSES)).repeat_interleave(IPC)
    if kind != "hard":
        labels = torch.randn(len(labels), len(CLASSES), generator=g)
        labels = labels.softmax(1) if kind == "probabilities" else labels
    return ExternalSet(torch.randn(len(CLASSES) * IPC, channels, 8, 8, generator=g), labels, kind, lr, CLASSES)


def stored(folder, **more):
    folder.mkdir(parents=True, exist_ok=True)
    made = to_artifact(foreign(**more), ImportOptions(values="mtt-cifar10"), folder, "test")
    save_artifact(made, folder / ARTIFACT)
    return made


def there_and_back(tmp_path, name, **more):
    """(artifact, the same artifact out and in again)."""
    first = stored(tmp_path / "a", **more)
    space = export_set(name, tmp_path / "a", tmp_path / "out", space=SPACES.get(name))
    said = ImportOptions(values=space, classes=None if name in PLAIN else CLASSES)
    return first, import_set(name, tmp_path / "out", tmp_path / "b", said)


def distance(a, b):
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize("name", ["dc", "mtt", "ddranking", "huggingface"])
def test_float_formats_come_back(tmp_path, name):
    first, back = there_and_back(tmp_path, name)
    again = load_artifact(tmp_path / "b" / ARTIFACT)
    assert distance(first.decode(), again.decode()) <= FLOAT
    assert torch.equal(again.labels, first.labels)
    assert again.classes == CLASSES
    assert again.header.codec.name == "identity"
    assert back.header.origin.format == name
    assert again.header.origin.selection == "unknown"


@pytest.mark.parametrize("name", ["mtt", "ddranking", "huggingface"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_soft_labels_and_the_learned_rate_come_back(tmp_path, name, kind):
    first, back = there_and_back(tmp_path, name, kind=kind, lr=0.0123)
    assert back.lr == pytest.approx(0.0123)
    kept = kind if name == "huggingface" else "logits"
    assert back.header.label_kind == kept
    probabilities = back.labels.softmax(1) if kept == "logits" else back.labels
    expected = first.labels.softmax(1) if kind == "logits" else first.labels
    torch.testing.assert_close(probabilities, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_folder_holds_256_levels(tmp_path, channels):
    folder = tmp_path / "a"
    folder.mkdir()
    space = "0.5/0.5"
    first = to_artifact(foreign(channels=channels), ImportOptions(values=space), folder, "test")
    save_artifact(first, folder / ARTIFACT)
    export_set("imagefolder", folder, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(CLASSES)
    back = import_set("imagefolder", tmp_path / "out", tmp_path / "b")
    assert back.classes == tuple(sorted(CLASSES)), "folders have an order of their own"
    order = torch.tensor([CLASSES.index(name) for name in back.classes])
    clamped = first.decode().clamp(0, 1).view(len(CLASSES), IPC, channels, 8, 8)[order].flatten(0, 1)
    assert float((back.decode() - clamped).abs().max()) <= 0.5 / 255 + 1e-6


def test_the_codes_of_an_import_are_the_sources_own_values(tmp_path):
    given = foreign()
    made = to_artifact(given, ImportOptions(values="mtt-cifar10"), tmp_path, "mtt")
    assert torch.equal(made.codes, given.images)
    mean, std = (torch.tensor(side).view(3, 1, 1) for side in values.CIFAR)
    torch.testing.assert_close(made.decode(), given.images * std + mean)


def test_parquet_and_pictures_of_hugging_face(tmp_path):
    import datasets

    first = stored(tmp_path / "a")
    export_set("huggingface", tmp_path / "a", tmp_path / "out")
    back = import_set("huggingface", tmp_path / "out" / "train.parquet", tmp_path / "b")
    assert torch.equal(back.decode(), first.decode())
    assert datasets.load_from_disk(str(tmp_path / "out" / "dataset")).features["label"].names == list(CLASSES)
    pictures = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (3, 200)]
    made = datasets.Dataset.from_dict(
        {"image": pictures, "label": [1, 0]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])}),
    )
    made.save_to_disk(str(tmp_path / "pictures"))
    with_pictures = import_set("huggingface", tmp_path / "pictures", tmp_path / "c")
    assert with_pictures.decode()[:, 0, 0, 0].tolist() == pytest.approx([3 / 255, 200 / 255])
    assert with_pictures.labels.tolist() == [1, 0]


# --- files as the projects write them ---------------------------------------------------------------------------------


def dc_file(path, experiments=1, ipc=IPC):
    """DatasetCondensation's own structure, its accuracies NumPy's."""
    sets = [foreign(seed=seed) for seed in range(experiments)]
    data = [[one.images.clone(), one.labels.clone()] for one in sets]
    accuracies = {"ConvNet": [np.float64(0.25), np.mean([0.2, 0.3])]}
    torch.save({"data": data, "accs_all_exps": accuracies}, path / f"res_DM_CIFAR10_ConvNet_{ipc}ipc.pt")
    return sets


def test_condensation(tmp_path):
    (given,) = dc_file(tmp_path)
    made = import_set("dc", tmp_path, tmp_path / "out", ImportOptions(values="dc-cifar10"))
    assert torch.equal(made.codes, given.images)
    assert made.classes == ("0", "1", "2")


def test_one_of_several_experiments_has_to_be_named(tmp_path):
    sets = dc_file(tmp_path, experiments=3)
    with pytest.raises(UsageError, match=r"3 experiments: say which, --experiment 0 … 2"):
        import_set("dc", tmp_path, tmp_path / "out", ImportOptions(values="dc-cifar10"))
    made = import_set("dc", tmp_path, tmp_path / "out", ImportOptions("dc-cifar10", experiment=1))
    assert torch.equal(made.codes, sets[1].images)
    with pytest.raises(UsageError, match="--experiment 1: a file of mtt holds one set"):
        import_set("mtt", tmp_path, tmp_path / "c", ImportOptions("dc-cifar10", experiment=1))
    with pytest.raises(UsageError, match="--experiment 3, but it holds 3"):
        import_set("dc", tmp_path, tmp_path / "c", ImportOptions("dc-cifar10", experiment=3))


def mtt_files(folder, which="best", **more):
    given = foreign(**more)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(given.images, folder / f"images_{which}.pt")
    torch.save(given.labels, folder / f"labels_{which}.pt")
    if given.lr is not None:
        torch.save(torch.tensor(given.lr, requires_grad=True).detach(), folder / f"lr_{which}.pt")
    return given


def test_trajectories(tmp_path):
    best, other = mtt_files(tmp_path), mtt_files(tmp_path, "5000", seed=1)
    said = ImportOptions(values="mtt-cifar10")
    assert torch.equal(import_set("mtt", tmp_path, tmp_path / "a", said).codes, best.images)
    assert torch.equal(import_set("mtt", tmp_path / "images_5000.pt", tmp_path / "b", said).codes, other.images)
    (tmp_path / "images_best.pt").unlink()
    mtt_files(tmp_path, "6000")
    with pytest.raises(UsageError, match=r"there are: images_5000.pt, images_6000.pt; name the file"):
        import_set("mtt", tmp_path, tmp_path / "c", said)


def test_datm_keeps_its_logits_and_its_rate(tmp_path):
    given = mtt_files(tmp_path, kind="logits", lr=0.0271)
    made = import_set("mtt", tmp_path, tmp_path / "out", ImportOptions(values="mtt-cifar10", ipc=IPC))
    assert torch.equal(made.labels, given.labels)
    assert made.lr == pytest.approx(0.0271)
    assert made.header.label_kind == "logits"


def test_the_undone_whitening_holds_pixels(tmp_path):
    given = mtt_files(tmp_path, "zca_100")
    torch.save(given.labels, tmp_path / "labels_100.pt")
    made = import_set("mtt", tmp_path / "images_zca_100.pt", tmp_path / "out")
    assert torch.equal(made.decode(), given.images)
    with pytest.raises(UsageError, match="its values are 'none' by its own account, not 'zca'"):
        import_set("mtt", tmp_path / "images_zca_100.pt", tmp_path / "b", ImportOptions(values="zca"))


def tree(tmp_path, method="DM"):
    folder = tmp_path / "distilled_results" / method / "CIFAR10" / f"IPC{IPC}"
    folder.mkdir(parents=True)
    return folder


def test_dc_bench_takes_the_last_experiment(tmp_path):
    folder = tree(tmp_path)
    sets = dc_file(folder, experiments=2)
    made = import_set("dc-bench", folder, tmp_path / "out", ImportOptions(values="dc-cifar10"))
    assert torch.equal(made.codes, sets[-1].images)


def test_dc_bench_other_methods(tmp_path):
    folder = tree(tmp_path, "TM")
    given = mtt_files(folder)
    assert torch.equal(
        import_set("dc-bench", folder, tmp_path / "tm", ImportOptions(values="mtt-cifar10")).codes, given.images
    )
    folder = tree(tmp_path, "random")
    torch.save(given.images, folder / "CIFAR10_IPC4_normalize_images.pt")
    torch.save(given.labels.double(), folder / "CIFAR10_IPC4_normalize_labels.pt")
    made = import_set("dc-bench", folder, tmp_path / "random", ImportOptions(values="dc-cifar10"))
    assert torch.equal(made.labels, given.labels)
    with pytest.raises(UsageError, match=r"name a folder IPC<n> of the tree"):
        import_set("dc-bench", tmp_path, tmp_path / "no", ImportOptions(values="dc-cifar10"))
    with pytest.raises(UsageError, match="dc-bench can be imported only"):
        export_set("dc-bench", tmp_path / "tm", tmp_path / "no", space="dc-cifar10")


def test_dc_bench_parts_are_joined(tmp_path):
    folder, given = tree(tmp_path, "TM"), foreign()
    for part, (images, labels) in enumerate(zip(given.images.split(3), given.labels.split(3), strict=True)):
        torch.save(images.clone(), folder / f"images_best_{part}.pt")
        torch.save(labels.clone(), folder / f"labels_best_{part}.pt")
    made = import_set("dc-bench", folder, tmp_path / "out", ImportOptions(values="mtt-tiny"))
    assert torch.equal(made.codes, given.images)
    assert torch.equal(made.labels, given.labels)


def kip(folder, whitening):
    given = foreign()
    one_hot = torch.nn.functional.one_hot(given.labels).float() - 1 / len(CLASSES)
    images = given.images.permute(0, 2, 3, 1).contiguous().numpy()
    np.savez(folder / f"kip_cifar10_ConvNet_ssize12_{whitening}_nol_noaug_ckpt1000.npz", images=images, labels=one_hot)
    return given


def test_kip(tmp_path):
    folder = tree(tmp_path, "KIP")
    given = kip(folder, "nozca")
    made = import_set("dc-bench", folder, tmp_path / "out", ImportOptions(values="dc-cifar10"))
    assert torch.equal(made.codes, given.images)
    assert torch.equal(made.labels, given.labels)
    next(folder.iterdir()).unlink()
    kip(folder, "zca")
    with pytest.raises(UsageError, match="its pixels cannot be restored"):
        import_set("dc-bench", folder, tmp_path / "b")


def test_ddranking_files(tmp_path):
    first = stored(tmp_path / "a", lr=0.05)
    export_set("ddranking", tmp_path / "a", tmp_path / "out", space="ddranking-cifar10")
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert {"custom_train_trans", "custom_val_trans", "im_size"} <= set(config)
    assert (config["dataset"], config["ipc"], config["im_size"]) == ("CIFAR10", IPC, [8, 8])
    (tmp_path / "out" / "labels.pt").unlink()
    back = import_set("ddranking", tmp_path / "out", tmp_path / "b")
    assert torch.equal(back.labels, first.labels), "the order tells the class"
    with pytest.raises(UsageError, match=r"name of the dataset \(unknown\) does not say how its values"):
        export_set("ddranking", tmp_path / "a", tmp_path / "c")
    with pytest.raises(UsageError, match=r"ddranking holds one of the value spaces ddranking-cifar10"):
        export_set("ddranking", tmp_path / "a", tmp_path / "c", space="mtt-cifar10")
    assert not (tmp_path / "c").exists()


# --- what is checked --------------------------------------------------------------------------------------------------


def imported(tmp_path, given, **told):
    return to_artifact(given, ImportOptions(**{"values": "none", **told}), tmp_path / "file", "test")


def test_a_class_with_another_number_of_images_is_named(tmp_path):
    given = foreign()
    given.labels[0] = 1
    with pytest.raises(UsageError, match=r"5 images per class are needed; 'bee' has 3, 'cat' has 4"):
        imported(tmp_path, given)
    with pytest.raises(UsageError, match=r"3 images per class are needed; 'bee' has 4"):
        imported(tmp_path, foreign(), ipc=3)
    with pytest.raises(UsageError, match=r"soft labels \(12, 3\) for 3 classes; 15 of 3 are needed"):
        imported(tmp_path, foreign(kind="logits"), ipc=5)


def test_the_file_name_says_how_many(tmp_path):
    dc_file(tmp_path, ipc=5)
    with pytest.raises(UsageError, match=r"5 images per class are needed; '0' has 4, '1' has 4, '2' has 4"):
        import_set("dc", tmp_path, tmp_path / "out", ImportOptions(values="dc-cifar10"))


def test_classes_come_into_the_data_sets_order(tmp_path, digits):
    names = tuple(reversed(digits.classes))
    images, labels = torch.rand(10, 1, 8, 8), torch.arange(10)
    hard = imported(tmp_path, ExternalSet(images, labels, classes=names), dataset=digits)
    assert hard.labels.tolist() == list(range(9, -1, -1))
    assert hard.classes == digits.classes
    soft = imported(tmp_path, ExternalSet(images, torch.eye(10), "probabilities", classes=names), dataset=digits)
    assert torch.equal(soft.labels, torch.eye(10).flip(1))
    assert imported(tmp_path, ExternalSet(images, labels), dataset=digits).labels.tolist() == list(range(10))
    with pytest.raises(UsageError, match=r"classes ten are not in the dataset .* with --classes"):
        imported(tmp_path, ExternalSet(images, labels, classes=("ten", *names[1:])), dataset=digits)
    with pytest.raises(UsageError, match="9 classes, but the dataset has 10"):
        imported(tmp_path, ExternalSet(images[:9], labels[:9], classes=names[:9]), dataset=digits)
    with pytest.raises(UsageError, match="a class is named twice"):
        imported(tmp_path, foreign(), classes=("a", "a", "b"))


def test_a_value_space_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match=r"give --values, one of none, dc-mnist, .*, or MEAN/STD"):
        imported(tmp_path, foreign(), values=None)
    with pytest.raises(UsageError, match=r"'mtt-cifar' \(did you mean mtt-cifar10"):
        imported(tmp_path, foreign(), values="mtt-cifar")
    for other in ("dc-mnist", "0.1,0.2/1,1"):
        with pytest.raises(UsageError, match=r"values=.* channels, the images have 3"):
            imported(tmp_path, foreign(), values=other)
    for wrong in ("0.5,0.5/0.2", "0.5/0", "nan/1", "0.5/inf"):
        with pytest.raises(UsageError, match="all finite"):
            imported(tmp_path, foreign(), values=wrong)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": torch.zeros(12, 0, 8, 8)}, "1 or 3, H, W"),
        ({"images": torch.full((12, 3, 8, 8), float("nan"))}, "image values that are not finite"),
        ({"labels": torch.full((12, 3), float("inf")), "label_kind": "logits"}, "label values that are not finite"),
        ({"labels": torch.zeros(11, dtype=torch.int64)}, "12 images, but 11 labels"),
        ({"labels": torch.full((12,), 7)}, "labels 7 … 7 for 3 classes"),
        ({"images": torch.zeros(12, 2, 8, 8)}, "1 or 3, H, W"),
        ({"labels": torch.zeros(12, 4), "label_kind": "logits"}, r"soft labels \(12, 4\) for 3 classes"),
    ],
)
def test_bad_numbers_are_refused(tmp_path, change, told):
    from dataclasses import replace

    with pytest.raises(UsageError, match=told):
        imported(tmp_path, replace(foreign(), **change))


def test_another_size_than_the_data_sets(tmp_path, digits):
    given = ExternalSet(torch.rand(10, 1, 16, 16), torch.arange(10))
    with pytest.raises(UsageError, match=r"images \(1, 16, 16\), dataset digits has \(1, 8, 8\); dataset.image_size"):
        imported(tmp_path, given, dataset=digits)


def test_zca_is_refitted_and_undone(tmp_path, digits):
    pixels = digits.train.pixels[:10].float() / 255
    whitening = values.Whitening.fitted(digits)
    flat = digits.train.pixels.flatten(1).double() / 255
    white = whitening.whiten(digits.train.pixels.float() / 255).flatten(1).double()
    u, s, _ = torch.linalg.svd(torch.cov(flat.T))
    slow = (flat - flat.mean(0)) @ u @ torch.diag((s + values.ZCA_EPS).rsqrt()) @ u.T
    torch.testing.assert_close(white.float(), slow.float(), atol=1e-5, rtol=1e-5)
    given = ExternalSet(whitening.whiten(pixels), torch.arange(10))
    back = imported(tmp_path, given, dataset=digits, values="zca")
    torch.testing.assert_close(back.decode(), pixels, atol=2e-6, rtol=0)
    with pytest.raises(UsageError, match="values=zca has to be fitted on the training images: give --dataset"):
        imported(tmp_path, given, values="zca")


# --- what is never loaded ---------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"data": [Evil()]}, tmp_path / "res_x.pt")
    with pytest.raises(UsageError, match=r"asks for posix.mkdir, which is neither a tensor nor a number"):
        import_set("dc", tmp_path, tmp_path / "out", ImportOptions(values="none"))
    torch.save({"data": torch.nn.Linear(1, 1)}, tmp_path / "res_x.pt")
    with pytest.raises(UsageError, match=r"asks for torch.nn.modules.linear.Linear"):
        import_set("dc", tmp_path, tmp_path / "out", ImportOptions(values="none"))
    assert [path.name for path in tmp_path.iterdir()] == ["res_x.pt"]


@pytest.mark.parametrize("package", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numbers_of_both_numpys(tmp_path, package):
    """A pickle as NumPy 1 and NumPy 2 write it, with the module's name of either."""
    dc_file(tmp_path)
    (file,) = tmp_path.iterdir()
    with zipfile.ZipFile(file) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(n for n in parts if n.endswith("data.pkl"))
    there = next(m for m in (b"numpy._core.multiarray", b"numpy.core.multiarray") if m in parts[name])
    parts[name] = parts[name].replace(b"c" + there + b"\n", f"c{package}\n".encode())
    assert package.encode() in parts[name]
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    assert len(import_set("dc", tmp_path, tmp_path / "out", ImportOptions(values="none")).codes) == 12


def test_lying_sizes_are_refused(tmp_path):
    labels = torch.arange(3).repeat_interleave(4)
    torch.save(labels, tmp_path / "labels_best.pt")
    for made, told in (
        (torch.zeros(1).expand(10**6, 3, 32, 32), "cannot hold"),
        (torch.zeros(12, 3, 8, 8).to_sparse(), "cannot hold"),
        (torch.zeros(12, 3, 8, 8, device="meta"), "cannot hold"),
        (torch.zeros(0, 3, 8, 8), "none of them empty"),
        ({"a": 1}, "a tensor is needed, this is a dict"),
        (torch.zeros(12, 3, 8, 8, dtype=torch.uint8), "floating-point values are needed"),
        (torch.zeros(12, 3, 8, 8, dtype=torch.complex64), "floating-point values are needed"),
    ):
        torch.save(made, tmp_path / "images_best.pt")
        with pytest.raises(UsageError, match=told):
            import_set("mtt", tmp_path, tmp_path / "out", ImportOptions(values="none"))
    torch.save(torch.zeros(12, 3, 8, 8), tmp_path / "images_best.pt")
    for wrong in (labels + 0.5, torch.full((12,), float("nan")), torch.zeros(12, 3, dtype=torch.int64)):
        torch.save(wrong, tmp_path / "labels_best.pt")
        with pytest.raises(UsageError, match="whole numbers are needed"):
            import_set("mtt", tmp_path, tmp_path / "out", ImportOptions(values="none"))
    torch.save(torch.zeros(12, 3, 8, 8), tmp_path / "images_best.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match=r"torch before 1.6, not a zip archive; .*weights_only=True"):
        import_set("mtt", tmp_path, tmp_path / "out", ImportOptions(values="none"))


# --- the command line -------------------------------------------------------------------------------------------------


def called(words):
    return main.main([str(word) for word in words])


def test_import_evaluate_export_by_command(tmp_path, tiny_protocol, capsys):
    pixels = tiny.digits().train.pixels
    rows = torch.cat([part[:2] for part in tiny.spaces("identity")[2].by_class])
    torch.save((pixels[rows].float() / 255 - 0.3) / 0.4, tmp_path / "images_best.pt")
    torch.save(tiny.digits().train.labels[rows], tmp_path / "labels_best.pt")
    out = tmp_path / "imported"
    words = ["import", "mtt", tmp_path, "--values", "0.3/0.4", "--dataset", "digits", "--images-per-class", "2"]
    assert called([*words, "--out", out]) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        "20 images of 10 classes, 1x8x8, hard labels, values 0.3/0.4, dataset digits, selection unknown"
    )
    assert called([*words, "--out", out]) == 2
    assert "is there already; choose another --out" in capsys.readouterr().err
    plain = "--protocol tiny.test --evaluator convnet_d1 --quiet device=cpu amp=off compile=off threads=1"
    assert called(["evaluate", out, *plain.split()]) == 0
    assert "digits, tiny.test" in capsys.readouterr().out
    (record,) = out.rglob("evaluation.json")
    assert json.loads(record.read_text())["artifact"]["origin"]["selection"] == "unknown"
    assert called(["export", "huggingface", out, "--out", tmp_path / "hf"]) == 0
    assert called(["import", "huggingface", tmp_path / "hf", "--out", tmp_path / "again"]) == 0
    first, again = (load_artifact(folder / ARTIFACT) for folder in (out, tmp_path / "again"))
    assert distance(first.decode(), again.decode()) <= FLOAT
    assert called(["evaluate", tmp_path / "again", "--dataset", "digits", *plain.split()]) == 2
    assert "does not say what data it was made from: --allow-other-data" in capsys.readouterr().err


def test_faults_of_the_command_line(tmp_path, capsys):
    assert called(["import", "pickle", tmp_path, "--out", tmp_path / "o"]) == 2
    assert "unknown format 'pickle'; there are: dc, mtt, idc, dc-bench" in capsys.readouterr().err
    assert called(["import", "mtt", tmp_path, "--out", tmp_path / "o", "dataset.image_size=3", "seed=3"]) == 2
    told = capsys.readouterr().err
    assert "seed: is not used here; the keys are: dataset.*" in told
    assert "name the dataset too, with --dataset" in told
    assert called(["import", "mtt", tmp_path / "absent.pt", "--out", tmp_path / "o"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["import", "export"])
def test_the_help_lists_the_formats(command, capsys):
    with pytest.raises(SystemExit) as left:
        called([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert left.value.code == 0
    assert [line.split()[0] for line in lines[lines.index("formats:") + 1 :]] == list(formats.FORMATS)


def test_a_damaged_artifact_is_not_exported(tmp_path):
    stored(tmp_path / "a")
    path = tmp_path / "a" / ARTIFACT
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError):
        export_set("mtt", tmp_path / "a", tmp_path / "out", space="none")
    assert not (tmp_path / "out").exists()
