"""Compare the cost model with a run of each stage at two sizes, in seconds of one thread's processor time.

    python benchmarks/scale/check_model.py --cifar ../shared/data/cifar10

Processor time rather than a wall clock, so that other work on the machine disturbs less. Prints one line per stage and size.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.monitor import Clock
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.cost.model import DataSize, Model
from latentdd_plugin.experiments.cost.speed import Speed
from latentdd_plugin.experiments.run_folder import RunFolder
from latentdd_plugin.experiments.stage_records import Job
from latentdd_plugin.experiments.stages import distil, encode, load, to_artifact, train_and_test

PLAIN = {"device": "cpu", "amp": "off", "compile": "off", "threads": 1, "controls": False}


def compare(stage: str, **options: object) -> None:
    """Estimate a run, carry it out as far as the stage, and print both times of that stage."""
    config, parts = resolve_run(RunConfig(**PLAIN, **options))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DD_BENCH_CACHE"] = f"{folder}/cache"  # codes of an earlier run are not taken
        job = Job(config, parts, Clock(), folder=RunFolder(Path(folder) / "run"))
        loaded, estimates = load(job), []

        def estimate(codec: object) -> None:
            size = DataSize(
                len(loaded.data.train),
                int(loaded.data.source["test_size"]),
                len(loaded.data.classes),
                loaded.data.image_shape,
                "memory",
            )
            speed = Speed("cpu", clock=time.process_time)
            estimates.append(Model(config, parts, size, codec, loaded.numerics, speed).estimate())  # type: ignore[arg-type]
            marks.append(time.process_time())

        marks: list[float] = []
        encoded = encode(job, loaded, estimate)
        marks.append(time.process_time())
        if stage != "encode":
            distilled = distil(job, encoded)
            marks.append(time.process_time())
        if stage == "evaluate":
            artifact = to_artifact(job, distilled)
            with torch.no_grad():
                images = encoded.space.decode(artifact.codes)
            train_and_test(job, encoded, artifact, images)
            marks.append(time.process_time())
        seconds = marks[-1] - marks[-2]
        found = next(one for one in estimates[0].stages if one.name == stage)
        error = f"{100 * (found.seconds / seconds - 1):+.0f}%"
        print(
            f"| {stage} | {options} | {found.seconds:.1f} s ({found.basis}) | {seconds:.1f} s | {error} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar", default="../shared/data/cifar10")
    args = parser.parse_args()
    for per_class in (150, 600):
        data = {"name": args.cifar, "per_class": per_class}
        compare("encode", dataset=data, codec="tiny-vae", algo="random")
    for iterations in (10, 30):
        data = {"name": args.cifar, "per_class": 150}
        compare("distil", dataset=data, algo={"name": "dm", "preset": "quick", "iterations": iterations})
    for protocol in ("demo.v1", "quick.v1"):
        compare("evaluate", dataset="digits", algo="random", protocol=protocol)


if __name__ == "__main__":
    main()
