"""One outer step of DC, DSA, DM and MTT: the original's loss and gradient against ours, on the very same inputs.

The original script runs from its checkout; its initial images, network, real batches and augmentation seeds are noted
and given to our method through the public task. Compared in float32, relative; 1e-4 is asked for.

python benchmarks/fidelity/one_step.py --dc DatasetCondensation --mtt mtt-distillation [--data FOLDER] [--ipc 10]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import prepared, task_of
from peers import condensation_step, trajectories

from latentdd_plugin.core.config import DatasetConfig
from latentdd_plugin.distillers.gradients import weights_of
from latentdd_plugin.distillers.loop import Variables
from latentdd_plugin.distillers.mtt import MTT
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.trajectories import Step, adjoint
from latentdd_plugin.experiments.build import build_distiller
from latentdd_plugin.nn.augment import CROP_PAD, CUTOUT, OPERATIONS, Augment, Draw

CONDENSATION = {
    "dm": ("main_DM", []),
    "dc": ("main", ["--method", "DC"]),
    "dsa": ("main", ["--method", "DSA", "--dsa_strategy", "_".join(OPERATIONS)]),
}


@dataclass(frozen=True)
class Scripted(Task):
    """A task whose network has given weights."""

    weights: tuple[Tensor, ...] = ()

    def network(self, purpose: str, step: int) -> Any:
        """The matching network with the peer's weights."""
        built = super().network(purpose, step)
        for parameter, weight in zip(built.parameters(), self.weights, strict=True):
            parameter.data.copy_(weight)
        return built


class ScriptedAugment(Augment):
    """Augmentation whose draws are the peer's."""

    def __init__(self, seeds: list[int], side: int) -> None:
        super().__init__(OPERATIONS)
        object.__setattr__(self, "_queue", [peer_draw(seed, side) for seed in seeds])

    def draw(self, generator: torch.Generator, samples: int = 1) -> Draw | None:
        """The next of the peer's draws."""
        return self._queue.pop(0)  # type: ignore[attr-defined, no-any-return]


@dataclass
class ScriptedReal:
    """Real samples whose batches are the peer's."""

    real: Any
    orders: list[Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def batch(self, label: int, n: int, generator: torch.Generator) -> Tensor:
        """The next of the peer's batches."""
        return self.real.take(torch.as_tensor(self.orders.pop(0)[:n]))  # type: ignore[no-any-return]


def peer_draw(seed: int, side: int) -> Draw:
    """The operation and numbers that the original's seeding gives: one seed for the choice, the next ones for numbers."""

    def uniform(after: int) -> float:
        return float(torch.rand(1, generator=torch.Generator().manual_seed(seed + after)))

    def integer(after: int, low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=torch.Generator().manual_seed(seed + after)))

    choice = int(torch.randint(0, len(OPERATIONS), (1,), generator=torch.Generator().manual_seed(seed)))
    operation = OPERATIONS[choice]
    if operation == "crop":
        pad = int(side * CROP_PAD + 0.5)
        numbers = [(integer(i, -pad, pad + 1) + pad + 0.5) / (2 * pad + 1) for i in (1, 2)]
    elif operation == "cutout":
        places = side + 1 - int(side * CUTOUT + 0.5) % 2
        numbers = [(integer(i, 0, places) + 0.5) / places for i in (1, 2)]
    else:
        numbers = [uniform(i) for i in (1, 2, 3)]
    return Draw(operation, torch.tensor([[*numbers, 0.0, 0.0][:3]]))


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of theirs."""
    return float((ours - theirs).norm() / theirs.norm())


def condensation(method: str, args: argparse.Namespace) -> dict[str, float]:
    """DM, DC or DSA against DatasetCondensation."""
    config, ready, _ = prepared(
        args.data, {"name": "identity"}, algo={"name": "random"}, ipc=args.ipc, amp="off", compile="off"
    )
    script, words = CONDENSATION[method]
    words = [*words, "--dataset", "CIFAR10", "--ipc", str(args.ipc), "--init", "real", "--Iteration", "1"]
    seen = condensation_step(args.dc.resolve(), script, words, ready.pixels.all())
    if seen.start is None:
        raise SystemExit(f"{method}: the original never reached a step")
    classes = len(ready.data.classes)
    task = task_of(config, ready, args.ipc)
    given = {field.name: getattr(task, field.name) for field in fields(task) if field.init}
    augment = ScriptedAugment(seen.seeds, ready.data.image_shape[1]) if seen.seeds else task.augment
    given |= {
        "real": ScriptedReal(task.real, seen.batches[classes:]),
        "services": replace(task.services, augment=augment),
        "weights": tuple(seen.weights),
    }
    codes = seen.start.clone().requires_grad_()
    labels = torch.arange(classes).repeat_interleave(args.ipc)
    ours = build_distiller({"name": method, "preset": "paper", "init": "real", "batch_real": 256})
    loss = next(iter(ours.iteration(Scripted(**given), Variables(codes, labels, torch.optim.SGD([codes], 0.1)), 0)))  # type: ignore[attr-defined]
    loss.backward()
    assert codes.grad is not None
    return {
        "loss": abs(float(loss.detach()) - seen.loss) / abs(seen.loss),
        "gradient": relative(codes.grad, seen.gradients[0]),
    }


def mtt(args: argparse.Namespace) -> dict[str, float]:
    """MTT against mtt-distillation, IPC 1, without augmentation, N=20, one expert of two epochs."""
    options = {"syn_steps": 20, "expert_epochs": 2, "max_start_epoch": 1, "ipc": 1, "no_aug": True}
    few = DatasetConfig(args.data, per_class=500)  # the step is the same, the expert is trained sooner
    algo = {"name": "mtt", "preset": "paper", "experts": 1, "syn_steps": 20, "expert_epochs": 2, "max_start_epoch": 1}
    config, ready, parts = prepared(few, {"name": "identity"}, algo=algo, ipc=1, amp="off", compile="off")
    task = task_of(config, ready, 1)
    task = replace(task, services=replace(task.services, augment=Augment(())))
    method: MTT = parts.distiller
    experts = method._experts(task)
    kept = [[list(experts.snapshot(0, epoch)) for epoch in range(3)]]
    seen, _ = trajectories(args.mtt.resolve(), options, ready.pixels.all(), kept)
    classes = len(ready.data.classes)
    first = [torch.as_tensor(order[:1]) for order in seen.batches[:classes]]
    codes = task.real.take(torch.cat(first)).clone().requires_grad_()
    assert seen.start is not None
    assert torch.equal(codes.detach(), seen.start)
    labels = torch.arange(classes).repeat_interleave(1)
    rate = torch.tensor(0.01, requires_grad=True)
    steps = [Step(order, None) for order in seen.orders[-20:]]
    begin, target = experts.snapshot(0, 0), experts.snapshot(0, 2)
    assert len(weights_of(task.networks.network)) == len(begin)
    loss = adjoint(method._gradients(task), task, steps, begin, target, codes, labels, rate, exact=True)
    loss.backward()
    assert codes.grad is not None
    assert rate.grad is not None
    return {
        "loss": abs(float(loss.detach()) - seen.loss) / abs(seen.loss),
        "gradient": relative(codes.grad, seen.gradients[0]),
        "gradient of the rate": relative(rate.grad, seen.gradients[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dc", type=Path, help="checkout of DatasetCondensation")
    parser.add_argument("--mtt", type=Path, help="checkout of mtt-distillation")
    parser.add_argument("--data", default="../shared/data/cifar10")
    parser.add_argument(
        "--ipc", type=int, default=10, help="of DC, DSA and DM; the original fails at 1 on current torch"
    )
    parser.add_argument("--only", nargs="+", default=["dm", "dc", "dsa", "mtt"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    if args.dc:
        rows |= {method: condensation(method, args) for method in CONDENSATION if method in args.only}
    if args.mtt and "mtt" in args.only:
        rows["mtt"] = mtt(args)
    for method, figures in rows.items():
        verdict = "agrees" if max(figures.values()) <= 1e-4 else "DIFFERS"
        print(f"{method:5s} {verdict}  " + "  ".join(f"{name} {value:.2e}" for name, value in figures.items()))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
