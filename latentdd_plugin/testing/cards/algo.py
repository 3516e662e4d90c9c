"""Measure a distiller's card: speed and memory by resolution and budget, and its gain over random codes.

The gain is scored on a held-out part of the training split of the digits: no test image is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.distillers.loop import Matching
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.jobs import Job, read_outcome, run_in_processes
from latentdd_plugin.experiments.run import run
from latentdd_plugin.results.cards import AlgoCard, AlgoCell, AlgoEntry, AlgoGain, FindingEntry
from latentdd_plugin.results.environment import environment
from latentdd_plugin.results.record import Record
from latentdd_plugin.testing import Finding
from latentdd_plugin.testing.cards.codec import held_out_of_training

SIDES = (8, 16, 32)  # px that the digits are resized to
BUDGETS = (1, 10)  # images per class
STEPS = 8  # timed, for a method that counts its iterations


def algo_card(
    config: RunConfig, findings: Sequence[Finding] = (), *, progress: bool = False, command: str = ""
) -> AlgoCard:
    """Measure a distiller and return its card.

    Args:
        config: the distiller with its options; codec, budget, evaluators, protocol, seed and numerics of the gain.
        findings: the outcomes of the contracts.
        progress: show bars on stderr.
        command: what to record as the command.

    Raises:
        UsageError: the distiller is unknown, or does not take these options. RunFailed: a run could not be finished.
    """
    config, parts = resolve_run(replace(held_out_of_training(config), controls=True))
    with tempfile.TemporaryDirectory() as folder:
        record = run(config, out=Path(folder) / "gain", progress=progress, command=command)
        cells = measure(config, Path(folder), command)
    random = record.random_codes
    return AlgoCard(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        algo=AlgoEntry(
            name=config.algo.name,
            config=parts.distiller.config(),
            match_spaces=tuple(parts.distiller.match_spaces),
        ),
        contracts=tuple(FindingEntry(f.contract, f.status, f.message) for f in findings),
        cells=tuple(cells),
        gain=AlgoGain(
            dataset=config.dataset.name,
            codec=config.codec.name,
            match=config.match,
            bytes_per_class=record.budget.bytes_per_class,
            codes_per_class=record.budget.codes_per_class,
            protocol=record.protocol.name,
            scored_on=config.split,
            scored_images=record.dataset.test_size,
            scores=record.scores,
            summary=record.summary,
            random=None if random is None else random.summary,
            over_random=None if random is None else random.gain,
            distill_s=record.cost.distill_s,
        ),
        environment=environment(record.environment.numerics),
    )


def measure(config: RunConfig, folder: Path, command: str) -> list[AlgoCell]:
    """Measure steps per second and peak memory in pixels, by image side and budget, each in a process of its own."""
    cls = plugins.resolve("algos", config.algo.name).cls
    counted = issubclass(cls, Matching)
    jobs = []
    for side in SIDES:
        for ipc in BUDGETS:
            name = f"{side} px, {ipc} images per class"
            algo = {**config.algo, "iterations": STEPS} if counted else config.algo
            dataset = replace(config.dataset, image_size=side)
            how = config.replace(
                dataset=dataset,
                codec={"name": "identity"},
                algo=algo,
                match="code",
                ipc=ipc,
                lpc=None,
                precision="fp32",
                evaluators=("convnet_d1",),
                protocol="demo.v1",
                controls=False,
            )
            jobs.append(Job(name, how, folder / f"{side}-{ipc}", command))
    run_in_processes(jobs, lambda job: None)
    return [_cell(job, counted) for job in jobs]


def _cell(job: Job, counted: bool) -> AlgoCell:
    side, ipc = job.config.dataset.image_size or 0, job.config.ipc or 0
    outcome = read_outcome(job.folder)
    if outcome.status != "done":
        return AlgoCell(side=side, ipc=ipc, failed=outcome.reason or outcome.status)
    cost = Record.load(job.folder).cost
    step_ms = cost.step_ms_median if counted else None
    measured = {
        "steps_s": 1000 / step_ms if step_ms else None,
        "distill_s": cost.distill_s,
        "peak_rss_mb": cost.distill_peak_rss_mb,
        "peak_device_mb": cost.distill_peak_device_mb,
    }
    return AlgoCell.from_json({"side": side, "ipc": ipc, **measured})  # which keeps nulls
