"""DD-Ranking 0.2.0: `images.pt`, `labels.pt`, `lr.pt` and a YAML configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import yaml

from latentdd_plugin.artifacts.artifact import Artifact
from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions, sorted_by_class
from latentdd_plugin.artifacts.formats.files import SMALL_TEXT
from latentdd_plugin.artifacts.formats.tensor_checks import images_of, labels_of, number
from latentdd_plugin.artifacts.formats.trajectories import as_logits
from latentdd_plugin.artifacts.formats.unpickle import load_pt
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.untrusted import parse_yaml, read_text

CONFIG = "config.yaml"
SPACES = {name: f"ddranking-{name.lower()}" for name in values.DDRANKING}  # dataset -> its value space
DSA = {  # the keys that its code reads; those in its documentation differ
    "flip": 0.5,
    "rotate": 15.0,
    "saturation": 2.0,
    "brightness": 1.0,
    "contrast": 0.5,
    "scale": 1.2,
    "crop": 0.125,
    "cutout": 0.5,
}


class DDRanking(Format):
    """Images float32 (classes * ipc, C, H, W), class by class, normalised with DD-Ranking's constants.

    `labels.pt` holds int64 labels or float logits; of probabilities the logarithm is written. `lr.pt` is written if
    the set has a learned rate. `config.yaml` is for `Config.from_file`; DD-Ranking itself checks none of this.
    """

    name = "ddranking"

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return the set in a folder. Without `labels.pt` the class follows from the order and the YAML's ipc."""
        if not path.is_dir():
            raise UsageError(f"{path}: name the folder that holds images.pt")
        config = _config(path / CONFIG)
        images = images_of(load_pt(path / "images.pt"), f"{path}/images.pt")
        stated = config.get("ipc")
        ipc = stated if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0 else None
        rate = path / "lr.pt"
        lr = number(load_pt(rate), f"{rate}: learning rate") if rate.exists() else None
        space = values.ZCA if config.get("use_zca") is True else SPACES.get(str(config.get("dataset")))
        labels = _labels(path, len(images), ipc)
        kind = "logits" if labels.ndim == 2 else "hard"
        return ExternalSet(images, labels, kind, lr, ipc=ipc, values=space)

    def space_of(self, stored: Artifact) -> str | None:
        """Return the value space of the artifact's dataset, if DD-Ranking knows that dataset."""
        known = _known(stored.header.dataset.name)
        return SPACES[known] if known else None

    def write(self, external: ExternalSet, folder: Path) -> None:
        """Write the three files and the configuration."""
        held = sorted_by_class(external, self.name)
        if held.values not in SPACES.values():
            raise UsageError(f"ddranking holds one of the value spaces {', '.join(SPACES.values())}")
        torch.save(held.images, folder / "images.pt")
        torch.save(as_logits(held), folder / "labels.pt")
        if held.lr is not None:
            torch.save(torch.tensor(held.lr), folder / "lr.pt")
        (folder / CONFIG).write_text(yaml.safe_dump(_described(held), sort_keys=False))


def _labels(path: Path, images: int, ipc: int | None) -> torch.Tensor:
    file = path / "labels.pt"
    if file.exists():
        return labels_of(load_pt(file), str(file), soft=True)
    if ipc is None or images % ipc:
        raise UsageError(f"{path}: without labels.pt, {CONFIG} has to say ipc, of which {images} images are a multiple")
    return torch.arange(images // ipc).repeat_interleave(ipc)


def _config(path: Path) -> dict[str, Any]:
    try:
        found = parse_yaml(read_text(path, SMALL_TEXT)) if path.exists() else {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not readable ({type(error).__name__})") from None
    return found if isinstance(found, dict) else {}


def _known(name: str) -> str | None:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((known for known in SPACES if known.lower() == plain), None)


def _described(held: ExternalSet) -> dict[str, Any]:
    """Return a configuration for hard or soft labels, with every key that 0.2.0 insists on."""
    side = int(held.images.shape[2])
    dataset = next(known for known, space in SPACES.items() if space == held.values)
    soft = {
        "stu_use_torchvision": False,
        "tea_use_torchvision": False,
        "teacher_dir": "./teacher_models",
        "teacher_model_names": ["ConvNet-3"],
        "soft_label_mode": "S",
        "soft_label_criterion": "sce",
        "loss_fn_kwargs": {"temperature": 1.0, "scale_loss": False},
        "use_aug_for_hard": False,
    }
    return {
        "dataset": dataset,
        "real_data_path": "./dataset/",
        "ipc": held.ipc,
        "im_size": [side, int(held.images.shape[3])],
        "model_name": "ConvNet-3" if side <= 32 else "ConvNet-4" if side <= 64 else "ConvNet-5",
        **(soft if held.labels.ndim == 2 else {"use_torchvision": False}),
        "data_aug_func": "dsa",
        "aug_params": DSA,
        "use_zca": False,
        "custom_train_trans": None,
        "custom_val_trans": None,
        "optimizer": "sgd",
        "lr_scheduler": "step",
        "step_size": 500,
        "weight_decay": 0.0005,
        "momentum": 0.9,
        "num_eval": 5,
        "num_epochs": 1000,
        "syn_batch_size": 256,
        "real_batch_size": 256,
        "default_lr": 0.01,
        "num_workers": 4,
        "device": "cuda",
        "dist": False,
        "eval_full_data": True,
        "random_data_path": "./random_data",
        "random_data_format": "tensor",
        "save_path": "./scores.csv",
    }
