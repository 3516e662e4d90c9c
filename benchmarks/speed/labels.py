"""Time a training step under class numbers, stored soft labels and a teacher that is asked at every step.

    python benchmarks/speed/labels.py DATASET ARTIFACT

DATASET is the one that ARTIFACT, a set with soft labels, was made from. The teacher has the student's architecture. The
regimes take turns, twelve steps at a time; medians of five rounds, and their ratios to class numbers, are printed.
"""

import statistics
import sys
import time
from dataclasses import replace

from latentdd_plugin import RunConfig, load_artifact
from latentdd_plugin.core.compute import resolve_numerics
from latentdd_plugin.core.config import LabelConfig, TeacherConfig
from latentdd_plugin.data.load import load_dataset
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.scoring import trial_of
from latentdd_plugin.evaluators.train_scratch import TrainScratch, compile_network, make_optimizer, train_step
from latentdd_plugin.experiments.teachers import obtain_teacher
from latentdd_plugin.latent.space import pixel_set

ROUNDS, STEPS = 5, 12


def main(dataset: str, path: str) -> None:
    """Print a line for each regime."""
    config = RunConfig(dataset=dataset)
    data, numerics = load_dataset(config.dataset), resolve_numerics(config.compute)
    teacher = obtain_teacher(TeacherConfig("convnet"), data, numerics)
    artifact, real, held_out = load_artifact(path), pixel_set(data, numerics.device), data.held_out("test")
    held_out = replace(held_out, pixels=held_out.pixels[:500], labels=held_out.labels[:500])
    images, protocol, prepared = artifact.decode().to(numerics.device), protocols.get("fast.v1"), {}
    for regime in ("hard", "own", "teacher"):
        labels = {"labels": LabelConfig(regime), "teacher": teacher}
        trial = trial_of(artifact, images, data, real, held_out, protocol, numerics, **labels)
        network = TrainScratch("convnet").network(trial)[0].to(numerics.device)
        compiled = compile_network(network, trial, 0)
        prepared[regime] = trial, compiled, make_optimizer(network.train(), protocol, protocol.lr), []
    for number in range(ROUNDS):
        for trial, compiled, optimizer, seconds in prepared.values():
            batches, start = trial.batches(number), time.perf_counter()
            for _ in range(STEPS):
                train_step(compiled, optimizer, *next(batches), protocol.lr)
            seconds.append((time.perf_counter() - start) / STEPS)
    medians = {regime: statistics.median(seconds) for regime, (*_, seconds) in prepared.items()}
    for regime, seconds in medians.items():
        print(f"{regime:8} {1000 * seconds:7.1f} ms/step  {seconds / medians['hard']:.2f} of class numbers")


if __name__ == "__main__":
    main(*sys.argv[1:])
