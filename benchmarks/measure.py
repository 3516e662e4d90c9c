"""Rates and memory, each part in a process of its own, parts in turn, medians of several rounds."""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.core.config import DatasetConfig, RunConfig
from latentdd_plugin.core.monitor import Clock
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.distillers.services import Services
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.evaluators.base import Trial
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.stage_records import Encoded, Job
from latentdd_plugin.experiments.stages import encode, load
from latentdd_plugin.latent.space import pixel_set
from latentdd_plugin.nn.augment import Augment, operations_for

Figures = dict[str, Any]


def memory_mb(field: str) -> float:
    """This process's resident memory: `VmRSS` now, `VmHWM` its peak since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def reset_peak() -> None:
    """The peak is counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")


def prepared(data: str | DatasetConfig, codec: dict[str, Any], **options: Any) -> tuple[RunConfig, Encoded, Any]:
    """A configuration, its encoded training set, and its parts."""
    dataset = DatasetConfig(data) if isinstance(data, str) else data
    config, parts = resolve_run(RunConfig(dataset=dataset, codec=codec, controls=False, **options))
    job = Job(config, parts)
    return config, encode(job, load(job)), parts


def real_set(data: str | DatasetConfig) -> tuple[Tensor, Tensor]:
    """Standardised training images and labels, loaded without any of our settings: the process stays as a peer finds it."""
    return pixel_set(load_dataset(DatasetConfig(data) if isinstance(data, str) else data), "cpu").all()


def task_of(config: RunConfig, ready: Encoded, codes_per_class: int) -> Task:
    """A distillation task as a run makes it."""
    in_pixels = config.match == "pixel" or ready.codec.codec.pixels
    operations = operations_for(
        colour=in_pixels and ready.data.image_shape[0] == 3,
        spatial=in_pixels or ready.codec.spatial,
        flip=ready.data.flip,
    )
    return Task(
        real=ready.pixels if in_pixels else ready.codes,
        codes=ready.codes,
        space=ready.space,
        match=config.match,
        codes_per_class=codes_per_class,
        num_classes=len(ready.data.classes),
        seed=config.seed,
        services=Services(ready.numerics, Augment(operations)),
        real_id=ready.data.fingerprint + ready.codec.fingerprint + config.match,
    )


def trial(ready: Encoded, codes: Tensor, labels: Tensor, protocol: Protocol, lr: float | None = None) -> Trial:
    """Standardised codes (M, c, h, w) with hard labels, decoded and ready to be judged on the test images."""
    with torch.no_grad():
        images = ready.space.decode(codes)
    return Trial(
        images=images,
        labels=labels,
        label_kind="hard",
        lr=lr,
        held_out=ready.data.held_out("test"),
        num_classes=len(ready.data.classes),
        mean=ready.pixels.mean,
        std=ready.pixels.std,
        flip=ready.data.flip,
        protocol=protocol,
        numerics=ready.numerics,
    )


def distil_steps(task: Task, distiller: Any, steps: int) -> Figures:
    """Median seconds of a step of our loop after a warm-up, and the peak memory above what was there before."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what loading freed is not to hide what a step takes
    distiller.iterations = steps + 2
    clock, before = Clock(), memory_mb("VmRSS")
    reset_peak()
    with clock.watch_steps(show=False) as watch:
        distiller.distill(replace(task, services=replace(task.services, progress=watch)))
    gaps = [b - a for a, b in zip(clock.steps[1:], clock.steps[2:], strict=False)]
    peak = memory_mb("VmHWM")
    return {"seconds": median(gaps), "above_mb": peak - before, "peak_mb": peak}


def main(
    parts: dict[str, Callable[[argparse.Namespace], Figures]],
    arguments: Callable[[argparse.ArgumentParser], None],
    report: Callable[[dict[str, Figures]], list[str]],
) -> None:
    """Run every part in turn for so many rounds, print medians and ratios, write them as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", help="run one part in this process and print its figures")
    parser.add_argument("--only", help="parts to run, with commas")
    arguments(parser)
    args = parser.parse_args()
    if args.part:
        sys.stdout.write("\n" + json.dumps(parts[args.part](args)) + "\n")
        return
    wanted = args.only.split(",") if args.only else list(parts)
    rounds: dict[str, list[Figures]] = {name: [] for name in wanted}
    for _ in range(args.rounds):
        for name in wanted:
            done = subprocess.run(
                [sys.executable, *sys.argv, "--part", name], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.stderr.write(f"{name}: failed\n{done.stderr[-2000:]}\n")
                continue
            figures = json.loads(done.stdout.strip().splitlines()[-1])
            rounds[name].append(figures)
            sys.stderr.write(f"{name}: {figures}\n")
    medians = {name: {k: median(r[k] for r in rows) for k in rows[0]} for name, rows in rounds.items() if rows}
    lines = [
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    ]
    lines += [
        f"{name:28s} " + "  ".join(f"{k} {v:.4g}" for k, v in figures.items()) for name, figures in medians.items()
    ]
    lines += report(medians)
    print("\n".join(lines))
    if args.out:
        args.out.write_text(json.dumps({"medians": medians, "rounds": rounds, "report": lines}, indent=2) + "\n")


def ratio(medians: dict[str, Figures], a: str, b: str, key: str = "seconds") -> str:
    """`a / b` of a figure, where both were measured."""
    return f"{medians[a][key] / medians[b][key]:.2f}" if a in medians and b in medians else "not measured"
