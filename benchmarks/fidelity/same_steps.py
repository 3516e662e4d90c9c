"""DC, DSA, DM and MTT: what the original and ours come to after the same number of steps, under one evaluation.

Both start from the same real images of CIFAR-10, with the same hyper-parameters; networks, batches and augmentations are
drawn by each in its own way, which is what the deviation over repeats and networks is for. The runs are short ones, so
that two cores can do them: steps and batches are printed. Results are kept in --out; the same command goes on.

python benchmarks/fidelity/same_steps.py --dc DatasetCondensation --mtt mtt-distillation --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from scipy.stats import ttest_ind
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import prepared, task_of, trial
from peers import Distilled, condensation_run, trajectories_run

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.train_scratch import TrainScratch
from latentdd_plugin.experiments.build import build_distiller
from latentdd_plugin.nn.augment import OPERATIONS

STRATEGY = ["--dsa_strategy", "_".join(OPERATIONS)]


@dataclass(frozen=True)
class Case:
    """One method's short run, said twice: to the original and to ours."""

    ipc: int
    steps: int
    peer: dict[str, Any]
    ours: dict[str, Any]
    script: str = ""
    words: list[str] = field(default_factory=list)
    loops: tuple[int, int] | None = None


CASES = {
    "dm": Case(10, 100, {"batch_real": 64}, {"batch_real": 64}, "main_DM", STRATEGY),
    "dc": Case(
        1, 100, {"batch_real": 64}, {"batch_real": 64, "outer_loops": 1, "inner_loops": 1}, "main", ["--method", "DC"]
    ),
    "dsa": Case(
        10,
        25,
        {"batch_real": 64},
        {"batch_real": 64, "outer_loops": 2, "inner_loops": 5},
        "main",
        ["--method", "DSA", *STRATEGY],
        (2, 5),
    ),
    "mtt": Case(
        1,
        200,
        {"syn_steps": 10, "expert_epochs": 1, "max_start_epoch": 3, "lr_img": 1000, "lr_lr": 1e-5},
        {"syn_steps": 10, "expert_epochs": 1, "max_start_epoch": 3, "lr": 1000.0, "lr_lr": 1e-5, "experts": 2},
    ),
}


@dataclass(frozen=True)
class Started(Task):
    """A task whose first codes are given."""

    start: Tensor | None = None

    def init(self, kind: str = "real") -> tuple[Tensor, Tensor]:
        """The given codes, class by class."""
        assert self.start is not None
        return self.start.clone(), torch.arange(self.num_classes).repeat_interleave(self.codes_per_class)


class Runs:
    """Both sides of every case on one dataset."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        data = DatasetConfig(args.data, per_class=args.per_class)
        algo = {"name": "random"}
        self.config, self.ready, _ = prepared(data, {"name": "identity"}, algo=algo, ipc=1, amp="off", compile="on")

    def peer(self, method: str, repeat: int) -> Distilled:
        case, real = CASES[method], self.ready.pixels.all()
        if method == "mtt":
            task, distiller = self.task(method, repeat), self.distiller(method)
            experts = distiller._experts(task)
            kept = [[list(experts.snapshot(e, t)) for t in range(experts.training.epochs + 1)] for e in range(2)]
            options = {**case.peer, "ipc": case.ipc}
            return trajectories_run(self.args.mtt.resolve(), options, real, kept, case.steps, repeat)
        words = [*case.words, "--dataset", "CIFAR10", "--ipc", str(case.ipc), "--init", "real"]
        words += ["--Iteration", "1000000", *(str(w) for k, v in case.peer.items() for w in (f"--{k}", v))]
        return condensation_run(self.args.dc.resolve(), case.script, words, real, case.steps, repeat, case.loops)

    def ours(self, method: str, repeat: int, start: Tensor) -> Distilled:
        task = self.task(method, repeat)
        given = {one.name: getattr(task, one.name) for one in fields(Task) if one.init}
        made = self.distiller(method).distill(Started(**given, start=start))
        return Distilled(start, made.codes, made.lr)

    def task(self, method: str, repeat: int) -> Task:
        return replace(task_of(self.config, self.ready, CASES[method].ipc), seed=repeat)

    def distiller(self, method: str) -> Any:
        case = CASES[method]
        return build_distiller(
            {"name": method, "preset": "paper", "init": "real", "iterations": case.steps, **case.ours}
        )

    def accuracies(self, method: str, images: Tensor, repeat: int) -> list[float]:
        labels = torch.arange(len(self.ready.data.classes)).repeat_interleave(CASES[method].ipc)
        score = TrainScratch("convnet").session(trial(self.ready, images, labels, protocols.get(self.args.protocol)))
        return [score(1000 * repeat + n).accuracy for n in range(self.args.networks)]


def cached(path: Path, make: Any) -> Distilled:
    """Made once, then read from disk."""
    if not path.exists():
        made = make()
        tensors = {"start": made.start, "images": made.images}
        save_file(tensors | ({} if made.lr is None else {"lr": torch.tensor(made.lr)}), path)
    tensors = load_file(path)
    return Distilled(tensors["start"], tensors["images"], float(tensors["lr"]) if "lr" in tensors else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dc", type=Path, help="checkout of DatasetCondensation")
    parser.add_argument("--mtt", type=Path, help="checkout of mtt-distillation")
    parser.add_argument("--data", default="../shared/data/cifar10")
    parser.add_argument("--per-class", type=int, default=1000, help="training images of a class")
    parser.add_argument("--repeats", type=int, default=2, help="distillations of each method and side")
    parser.add_argument("--networks", type=int, default=3, help="networks that judge each distillation")
    parser.add_argument("--protocol", default="quick.v1")
    parser.add_argument("--only", nargs="+", default=list(CASES))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs, file = Runs(args), args.out / "scores.json"
    scores: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    for repeat in range(args.repeats):
        for method in args.only:
            theirs = cached(
                args.out / f"{method}-peer-{repeat}.safetensors", lambda m=method, r=repeat: runs.peer(m, r)
            )
            ours = cached(
                args.out / f"{method}-ours-{repeat}.safetensors",
                lambda m=method, r=repeat, s=theirs.start: runs.ours(m, r, s),
            )
            for side, images in (("start", theirs.start), ("peer", theirs.images), ("ours", ours.images)):
                key = f"{method} {side} {repeat}"
                if key not in scores:
                    scores[key] = runs.accuracies(method, images, repeat)
                    file.write_text(json.dumps(scores, indent=2) + "\n")
            print(
                f"{method} repeat {repeat}: moved {_moved(theirs):.3f} and {_moved(ours):.3f}, rates {theirs.lr} and {ours.lr}",
                flush=True,
            )
    for method in args.only:
        _report(method, args, scores)


def _moved(made: Distilled) -> float:
    """Return the distance that the images moved, relative to their start."""
    return float((made.images - made.start).norm() / made.start.norm())


def _report(method: str, args: argparse.Namespace, scores: dict[str, list[float]]) -> None:
    sides = {
        s: [a for r in range(args.repeats) for a in scores[f"{method} {s} {r}"]] for s in ("start", "peer", "ours")
    }
    case = CASES[method]
    said = {side: f"{100 * fmean(rows):.1f} ± {100 * stdev(rows):.1f}" for side, rows in sides.items()}
    low, high = ttest_ind(sides["ours"], sides["peer"], equal_var=False).confidence_interval()
    print(
        f"{method:4s} IPC {case.ipc}, {case.steps} steps {case.peer}: start {said['start']}, original {said['peer']}, "
        f"ours {said['ours']}; difference {100 * (fmean(sides['ours']) - fmean(sides['peer'])):+.1f} "
        f"(95% {100 * low:+.1f} to {100 * high:+.1f}), {len(sides['ours'])} networks"
    )


if __name__ == "__main__":
    main()
