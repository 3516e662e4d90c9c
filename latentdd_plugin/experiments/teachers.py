"""Teachers: loaded from a folder or the hub, or trained here on the real training set by a named recipe.

A recipe is an evaluation protocol on the whole training set. A trained network is kept in the cache by data, recipe,
architecture, seed and arithmetic; an interrupted training continues at its last epoch.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.compute import Numerics
from latentdd_plugin.core.config import TeacherConfig
from latentdd_plugin.core.errors import RunFailed, Unsuitable, UsageError
from latentdd_plugin.core.random import seeded
from latentdd_plugin.core.storage import locked
from latentdd_plugin.core.types import ImageData, Json, hash_json
from latentdd_plugin.core.version import __version__
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.train_scratch import (
    CompiledNetwork,
    compile_network,
    make_optimizer,
    rate_at,
    train_step,
)
from latentdd_plugin.evaluators.trial import Trial
from latentdd_plugin.latent.space import Real, pixel_set
from latentdd_plugin.nn.architectures import build, is_known
from latentdd_plugin.nn.teacher import CARD, Teacher, load_teacher

log = logging.getLogger(__name__)

# Recipes for the whole training set. `quick` is `fast.v1` for eight epochs, for two CPU cores. It augments strongly,
# because distilled images are blurred and shifted in colour. The other is for accelerators.
WHOLE_SET = replace(protocols.get("fast.v1"), side=None, steps=(), labels="hard", seeds=1)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        replace(WHOLE_SET, name="teacher-quick.v1", epochs=8),
        replace(
            WHOLE_SET,
            name="teacher.v1",
            epochs=200,
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=5e-4,
            augment=("crop", "flip", "cutout"),
        ),
    )
}


def teacher_faults(config: TeacherConfig) -> list[str]:
    """Return every fault of a teacher that can be seen without data or the hub."""
    if not config:
        return []
    if config.path is not None:
        there = (Path(config.path) / CARD).is_file()
        return [] if there else [f"teacher.path={config.path}: no {CARD} there; `dd-bench teacher train` makes one"]
    found = []
    if not is_known(str(config.name)):
        found.append(f"teacher={config.name}: no timm architecture and not convnet; teacher.path loads a folder")
    if not config.pretrained and config.recipe not in RECIPES:
        found.append(f"teacher.recipe={config.recipe}: choose one of {', '.join(RECIPES)}")
    return found


def architecture_of(config: TeacherConfig) -> str | None:
    """Return the architecture of a configured teacher, without loading its weights; None if there is none to read."""
    if config.path is None:
        return config.name if config and is_known(str(config.name)) else None
    try:
        value = json.loads((Path(config.path) / CARD).read_text(encoding="utf-8"))
        return str(value["arch"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # which loading it reports


def obtain_teacher(
    config: TeacherConfig, data: ImageData, numerics: Numerics, *, progress: bool = False
) -> Teacher | None:
    """Return the configured teacher on the run's device, trained first if need be; None if none is configured.

    Raises:
        UsageError: it cannot be loaded, or it is one of other classes or images.
    """
    if not config:
        return None
    if config.path is not None:
        teacher = load_teacher(config.path)
    elif config.pretrained:
        teacher = _pretrained(str(config.name), data)
    else:
        teacher = _trained(config, data, numerics, progress=progress)
    teacher.check_classes(data.classes, data.image_shape)
    _warn_of_held_out_images(teacher, data)
    return teacher.to(numerics.device)


def _warn_of_held_out_images(teacher: Teacher, data: ImageData) -> None:
    """Log a warning if the teacher may have been trained on images that this run holds out for validation."""
    if not data.source.get("validation_size") or not data.fingerprint or teacher.card.data == data.fingerprint:
        return
    other = "does not say which images it was trained on" if teacher.card.data is None else "saw other training images"
    log.warning(
        "teacher %s %s: if the held-out images are among them, scores on validation images are too high; "
        "`dd-bench teacher train` with the same dataset.validation makes one that has not seen them",
        teacher.card.arch,
        other,
    )


def _pretrained(name: str, data: ImageData) -> Teacher:
    """Return timm's network with the weights and the normalisation that timm has for it."""
    import timm

    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"teacher={name}: timm cannot give its pretrained weights ({reason})") from None
    made: dict[str, Any] = dict(network.pretrained_cfg)
    if network.num_classes != len(data.classes):
        raise UsageError(
            f"teacher={name}: its head knows {network.num_classes} classes, the data has {len(data.classes)}; "
            "train one with `dd-bench teacher train`"
        )
    log.info("teacher %s: its class order is not stated; it is taken to be the data's", name)
    return Teacher.of(
        (network,),
        arch=name,
        kwargs={},
        classes=data.classes,
        input_shape=tuple(made["input_size"]),
        mean=tuple(made["mean"]),
        std=tuple(made["std"]),
        trained_on=(str(made.get("tag") or "unknown"),),
    )


# --- training ---------------------------------------------------------------------------------------------------------


def _trained(config: TeacherConfig, data: ImageData, numerics: Numerics, *, progress: bool) -> Teacher:
    """Return networks trained here, from the cache if they are there."""
    real, recipe = pixel_set(data, numerics.device), RECIPES[config.recipe]
    networks: list[nn.Module] = []
    name, kwargs = "", dict[str, Json]()
    for seed in range(config.seed, config.seed + config.networks):
        network, name, kwargs = _trained_network(str(config.name), seed, recipe, data, real, numerics, progress)
        networks.append(network)
    return Teacher.of(
        tuple(networks),
        arch=name,
        kwargs=kwargs,
        classes=data.classes,
        input_shape=data.image_shape,
        mean=tuple(real.mean.flatten().tolist()),
        std=tuple(real.std.flatten().tolist()),
        trained_on=(data.name,),
        data=data.fingerprint or None,
        recipe=config.recipe,
        seed=config.seed,
    )


def _trained_network(
    arch: str, seed: int, recipe: Protocol, data: ImageData, real: Real, numerics: Numerics, progress: bool
) -> tuple[nn.Module, str, dict[str, Json]]:
    try:
        with seeded(seed, f"teacher/{arch}"):
            network, name, kwargs = build(arch, data.image_shape, len(data.classes))
    except Unsuitable as reason:
        raise UsageError(f"teacher={arch}: {reason}") from None
    owner = {
        "schema": "dd-bench/teacher-training.v1",
        "arch": name,
        "recipe": recipe.to_json(),
        "data": data.fingerprint,
        "flip": data.flip,
        "seed": seed,
        "numerics": numerics.to_json(),
        "version": __version__,
    }
    folder = cache_dir() / "teachers" / hash_json(owner)[:32]
    with locked(folder):
        state = checkpoint.read(folder / "network.safetensors", owner)
        if state is None:
            log.info("training teacher %s, seed %d, for %d epochs", name, seed, recipe.epochs)
            _fit(network, folder, owner, _whole(data, real, recipe, numerics), seed, progress=progress)
            state = checkpoint.read(folder / "network.safetensors", owner)
    if state is None:
        raise RunFailed(f"teacher {name}: the trained network in {folder} cannot be read")
    network.load_state_dict(state.content)
    return network, name, kwargs


def _whole(data: ImageData, real: Real, recipe: Protocol, numerics: Numerics) -> Trial:
    """Return the trial on every real training image; no held-out image is read."""
    return Trial(
        images=data.train.pixels,
        labels=data.train.labels,
        label_kind="hard",
        lr=None,
        held_out=replace(data.train, pixels=data.train.pixels[:0], labels=data.train.labels[:0]),
        num_classes=len(data.classes),
        mean=real.mean,
        std=real.std,
        flip=data.flip,
        protocol=recipe,
        numerics=numerics,
    )


def _fit(network: nn.Module, folder: Path, owner: dict[str, Json], trial: Trial, seed: int, *, progress: bool) -> None:
    """Train the network in place and store it; keep network and optimiser after each epoch."""
    compiled = compile_network(network.to(trial.numerics.device), trial, seed)
    optimizer = make_optimizer(network, trial.protocol, trial.protocol.lr)
    sizes, kept = trial.batch_sizes, folder / "epoch.safetensors"
    done = _resumed(compiled, optimizer, kept, owner)
    epoch = max(1, len(sizes) // trial.protocol.epochs)
    network.train()
    with (
        seeded(seed, f"teacher/train/{owner['arch']}"),
        tqdm(total=len(sizes), initial=done, unit="step", desc="teacher", disable=not progress, leave=False) as bar,
    ):
        for step, (inputs, targets) in enumerate(trial.batches(seed, done), done):
            train_step(
                compiled, optimizer, inputs, targets, rate_at(trial.protocol, step, len(sizes), trial.protocol.lr)
            )
            bar.update()
            if (step + 1) % epoch == 0 and step + 1 < len(sizes):
                content = {"step": step + 1, "network": dict(network.state_dict()), "optimizer": optimizer.state_dict()}
                checkpoint.write(kept, content, owner)
    checkpoint.write_tensors(folder / "network.safetensors", network.state_dict(), owner)
    kept.unlink(missing_ok=True)


def _resumed(compiled: CompiledNetwork, optimizer: torch.optim.Optimizer, kept: Path, owner: dict[str, Json]) -> int:
    """Load what an interrupted training left and return the number of steps it had done."""
    stored = checkpoint.read(kept, owner) if kept.exists() else None
    if stored is None:
        return 0
    compiled.network.load_state_dict(stored.content["network"])
    optimizer.load_state_dict(stored.content["optimizer"])
    return int(stored.content["step"])


def converted_teacher(
    path: Path, arch: str, data: ImageData, mean: tuple[float, ...], std: tuple[float, ...]
) -> Teacher:
    """Return the teacher in a pickled file of weights; nothing in the file is executed.

    Args:
        path: a state dict, or a mapping that holds one as `model`, `state_dict` or `network`.
        arch: its architecture, a timm name.
        data: the dataset whose classes it knows, in this order.
        mean: by channel, of its inputs.
        std: by channel, of its inputs.

    Raises:
        UsageError: the file cannot be read as weights alone, or holds those of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:
        raise UsageError(f"{path}: not a file of weights alone ({str(error).splitlines()[0]})") from None
    for key in ("model", "state_dict", "network"):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"{path}: it holds no state dict")
    state = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    try:
        network, name, kwargs = build(arch, data.image_shape, len(data.classes))
        network.load_state_dict(state)
    except (Unsuitable, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UsageError(
            f"{path}: its weights are not those of {arch} for {len(data.classes)} classes ({reason})"
        ) from None
    return Teacher.of(
        (network,),
        arch=name,
        kwargs=kwargs,
        classes=data.classes,
        input_shape=data.image_shape,
        mean=mean,
        std=std,
        trained_on=(),
    )
