"""An algorithm's card: its speed and memory by resolution and budget, and what it gains over random codes.

The gain is scored on a held-out part of the training split of the digits: no test image is read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

from latentdd_plugin.core import plugins
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.types import Json
from latentdd_plugin.distillers.loop import Matching
from latentdd_plugin.experiments.build import resolve_run
from latentdd_plugin.experiments.compare.outcomes import Order, outcome_of, run_apart
from latentdd_plugin.experiments.run import run
from latentdd_plugin.results.environment import environment
from latentdd_plugin.testing import Finding
from latentdd_plugin.testing.cards.codec import held_out_of_training

SCHEMA = "dd-bench/algo-card.v1"
SIDES = (8, 16, 32)  # px that the digits are resized to
BUDGETS = (1, 10)  # images a class
STEPS = 8  # timed, where a method counts its iterations


def algo_card(
    config: RunConfig, findings: Sequence[Finding] = (), *, progress: bool = False, command: str = ""
) -> dict[str, Json]:
    """Measure an algorithm; the card's content.

    Args:
        config: the algorithm with its options, codec, budget, evaluators, protocol, seed and numerics of the gain.
        findings: what the contracts said.
        progress: show bars on stderr.
        command: what to record as the command.

    Raises:
        UsageError: no such algorithm, or options it does not take. RunFailed: a run could not be finished.
    """
    config, parts = resolve_run(replace(held_out_of_training(config), controls=True))
    with tempfile.TemporaryDirectory() as folder:
        record = run(config, out=Path(folder) / "gain", progress=progress, command=command)
        cells = measure(config, Path(folder), command)
    budget, control = record.data["budget"], record.data["controls"].get("random-codes")
    return {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "algo": {
            "name": config.algo["name"],
            "config": parts.distiller.config(),
            "match_spaces": list(parts.distiller.match_spaces),
        },
        "contracts": [asdict(finding) for finding in findings],
        "cells": cells,
        "gain": {
            "dataset": config.dataset.name,
            "codec": config.codec["name"],
            "match": config.match,
            "bytes_per_class": budget["bytes_per_class"],
            "codes_per_class": budget["codes_per_class"],
            "protocol": record.data["protocol"]["name"],
            "scored_on": config.split,
            "scored_images": record.data["dataset"]["test_size"],
            "scores": record.data["scores"],
            "summary": record.data["summary"],
            "random": None if control is None else control["summary"],
            "over_random": None if control is None else control["gain"],
            "distill_s": record.data["cost"]["distill_s"],
        },
        "environment": environment(record.data["environment"]["numerics"]),
    }


def measure(config: RunConfig, folder: Path, command: str) -> list[dict[str, Json]]:
    """Steps a second and peak memory in pixels, by image side and budget, each in a process of its own."""
    cls = plugins.resolve("algos", str(config.algo["name"])).cls
    counted = issubclass(cls, Matching)
    orders = []
    for side in SIDES:
        for ipc in BUDGETS:
            name = f"{side} px, {ipc} images a class"
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
            orders.append(Order(name, how, folder / f"{side}-{ipc}", command, None, False))
    run_apart(orders, 1, lambda order: None)
    return [_cell(order, counted) for order in orders]


def _cell(order: Order, counted: bool) -> dict[str, Json]:
    cell: dict[str, Json] = {"side": order.config.dataset.image_size, "ipc": order.config.ipc}
    outcome = outcome_of(order.folder)
    if outcome.status != "done":
        return {**cell, "failed": outcome.reason or outcome.status}
    cost = json.loads((order.folder / "result.json").read_text())["cost"]
    step_ms = cost["step_ms_median"] if counted else None
    return {
        **cell,
        "steps_s": 1000 / step_ms if step_ms else None,
        "distill_s": cost["distill_s"],
        "peak_rss_mb": cost["distill_peak_rss_mb"],
        "peak_device_mb": cost["distill_peak_device_mb"],
    }
