"""MTT: matching training trajectories (Cazenavette et al., arXiv 2203.11932); the loss is in `trajectories.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from latentdd_plugin.distillers.trajectories import TrajectoryMatching


@dataclass
class MTT(TrajectoryMatching):
    """Matching training trajectories.

    Args:
        iterations: outer steps (paper: 5000).
        lr: step size of the codes (paper: 1000 at one image per class, with SGD).
        momentum: of the optimiser on codes, labels and rate (paper: 0.5).
        syn_steps: N, student steps per outer step.
        expert_epochs: M, epochs of the expert that they should cover.
        max_start_epoch: t is drawn below it.
        batch_syn: synthetic samples per student step; None takes all of them.
        lr_student: initial value of the learned rate alpha (paper: 0.01).
        lr_lr: step size of alpha.
        experts: number of trajectories (paper: 100). Only their first max_start_epoch - 1 + expert_epochs epochs can be
            drawn, so only these are trained.
        lr_expert: step size of the experts' training.
        batch_expert: samples per step of the experts' training.
        expert_precision: how their weights are stored, `fp32` or `fp16`.
        gradient: `exact` (flat memory), `tesla` (its approximation) or `unrolled` (the reference, memory grows with N).
        labels: `hard`, or `soft`: logits learned with the codes, initialised by the experts (as in DATM, arXiv
            2310.05773); their bytes are part of the budget.
        lr_labels: step size of soft labels.
        init: `real` or `noise`.
        optimizer: `sgd` (paper) or `adam`. MTT's gradient shrinks as the expert's path grows, so that the step of SGD
            must be tuned for each N, M and dataset; Adam's step need not.
        rate: a number shows codes as they will be stored and adds it times their share of the bytes; None does not.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "quick": {
            "iterations": 100,
            "syn_steps": 5,
            "expert_epochs": 1,
            "max_start_epoch": 2,
            "experts": 2,
            "batch_syn": 128,
            "expert_precision": "fp16",
            "optimizer": "adam",
            "lr": 0.01,
            "lr_student": 0.06,
            "lr_lr": 1e-3,
        },
    }
