"""The optimisation loop of all matching methods: a method gives its loss, the loop does the rest."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.monitor import held_interrupt
from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.processes import ALONE, Group, group
from latentdd_plugin.core.types import Json, SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.task import Task

CURVE_POINTS = 200  # losses recorded for the report
STEP = 0.1  # in standard deviations of a code, for one code per class
INITS, OPTIMIZERS = ("real", "noise"), ("sgd", "adam")


@dataclass
class Variables:
    """The optimised tensors, which change in place; `optimizer` holds a parameter group for each."""

    codes: Tensor  # float32 (M, c, h, w), standardised
    labels: Tensor  # int64 (M,), or float32 (M, classes) if they are learned
    optimizer: torch.optim.Optimizer
    lr: Tensor | None = None  # float32 (), the student's learned learning rate
    label_kind: str = "hard"
    more: dict[str, Tensor] = field(default_factory=dict)  # what is learned beside them and thrown away
    decoder: Mapping[str, Tensor] = field(default_factory=dict)  # trained with the codes, by an optimiser of its own
    decoder_optimizer: torch.optim.Optimizer | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimised tensors by name."""
        named = {**self.more, "codes": self.codes, "labels": self.labels, "lr": self.lr}
        found = {k: t for k, t in named.items() if t is not None and t.requires_grad}
        return found | {f"decoder.{name}": tensor for name, tensor in self.decoder.items()}

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimisers of all tensors."""
        return [self.optimizer] + ([] if self.decoder_optimizer is None else [self.decoder_optimizer])


class Matching(Distiller):
    """Base of the methods that optimise codes by matching. Derive and write `iteration`; a dataclass fits well.

    The loop reads these options of the derived class:

    Attributes:
        iterations: number of calls of `iteration`.
        lr: step size of the codes; None is 0.1 / sqrt(codes per class), for Adam.
        momentum: of SGD, or the first beta of Adam.
        init: `real` or `noise`, the initial codes.
        optimizer: `sgd` or `adam`.
        rate: optional. A number lets the method see codes rounded as they will be stored, and adds so many times the
            estimated share of the bytes to its loss; None rounds after the optimisation only.
        second_beta: the second beta of Adam.
        may_skip: a loss without gradient is recorded and changes nothing; otherwise it is an error.
    """

    match_spaces: ClassVar[tuple[str, ...]] = ("code", "pixel")
    trains_decoder: ClassVar[bool] = True
    iterations: int
    lr: float | None
    momentum: float
    init: str
    optimizer: str = "sgd"
    rate: float | None = None

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "quick": {}}
    second_beta: ClassVar[float] = 0.99
    may_skip: ClassVar[bool] = False

    def faults(self) -> list[str]:
        """Return a fault for each option that the loop reads and that is missing or unknown."""
        read, allowed = ["iterations"], dict[str, Sequence[str]]()
        if type(self).optimizer_of is Matching.optimizer_of:
            read, allowed = [*read, "momentum", "optimizer"], {"optimizer": OPTIMIZERS}
        if type(self).variables is Matching.variables:
            read, allowed = [*read, "lr", "init"], {**allowed, "init": INITS}
        faults = [f"the loop reads self.{name}: make it an option" for name in read if not hasattr(self, name)]
        faults += [
            f"{name}={getattr(self, name)}: choose one of {', '.join(values)}"
            for name, values in allowed.items()
            if getattr(self, name, values[0]) not in values
        ]
        if getattr(self, "lr", 0.0) is None and self.optimizer != "adam":
            faults.append(f"lr=null is for optimizer=adam only; give a number for {self.optimizer}")
        if self.rate is not None and self.rate < 0:
            faults.append(f"rate={self.rate:g}: must be null, 0 or a positive number")
        return faults

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON; `rate` only if it is set."""
        return config_of(self, ("rate",) if self.rate is None else ())

    @abstractmethod
    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield one or more losses; the variables are updated after each. Keep no state between calls.

        Args:
            task: samples, budget and services.
            variables: the optimised tensors, to be read at each loss.
            step: number of this call; every draw depends on it.
        """

    def variables(self, task: Task) -> Variables:
        """Return the tensors to optimise, with their initial values."""
        codes, labels = task.init(self.init)
        codes.requires_grad_()
        return Variables(codes, labels, self.optimizer_of([{"params": [codes], "lr": self.step_size(task)}]))

    def step_size(self, task: Task) -> float:
        """Return `lr`, or 0.1 / sqrt(codes per class) if it is None: the fewer codes, the further each moves."""
        return STEP / math.sqrt(task.codes_per_class) if self.lr is None else self.lr

    def optimizer_of(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return SGD, as in the papers, or Adam, whose step does not depend on the size of the gradient."""
        if self.optimizer == "adam":
            return torch.optim.Adam(groups, betas=(self.momentum, self.second_beta))
        return torch.optim.SGD(groups, momentum=self.momentum)

    def distill(self, task: Task) -> SyntheticSet:
        """Return the last iterate of the loop."""
        return optimise(self, task)


def one_of(option: str, value: str, allowed: Sequence[str]) -> str:
    """Return the value; raise ValueError with the allowed values if it is not among them."""
    if value not in allowed:
        raise ValueError(f"{option}={value}: choose one of {', '.join(allowed)}")
    return value


def optimise(method: Matching, task: Task) -> SyntheticSet:
    """Run all iterations of a method; the result is equal with and without interruption.

    Raises:
        RunFailed: the loss or a variable is no longer finite; the last finite checkpoint is kept.
    """
    ours = group() if method.shares_classes else ALONE
    variables = _with_decoder(method.variables(task), task)
    losses: list[tuple[int, float]] = []
    task = _as_stored(method, task, variables.codes)
    start = _restore(ours.from_first(task.checkpoint.load()), variables, losses)
    every = max(1, method.iterations // CURVE_POINTS)
    loss = torch.zeros(())
    with held_interrupt() as interrupted:
        for step in range(start, method.iterations):
            stop, due = ours.any(interrupted(), task.checkpoint.due())
            if stop or due:
                _save(task, variables, losses, step)
            if stop:
                raise KeyboardInterrupt
            for loss in _losses_of(method.iteration(task, variables, step)):
                if method.may_skip and not loss.requires_grad:
                    continue
                for optimizer in variables.optimizers:
                    optimizer.zero_grad(set_to_none=True)
                if task.rounding is not None and method.rate:
                    loss = loss + method.rate / ours.size * task.rounding.rate(variables.codes)
                loss.backward()
                loss = _shared(ours, loss, variables)
                for optimizer in variables.optimizers:
                    optimizer.step()
            if step % every == 0 or step == method.iterations - 1:
                losses.append((step, _check_finite(float(loss.detach()), variables, step)))
            task.progress(step + 1, method.iterations, losses[-1][1])
        _save(task, variables, losses, method.iterations)
        if interrupted():
            raise KeyboardInterrupt
    lr = None if variables.lr is None else float(variables.lr.detach())
    decoder = {name: tensor.detach().clone() for name, tensor in variables.decoder.items()} or None
    codes, labels = variables.codes.detach(), variables.labels.detach()
    return SyntheticSet(codes, labels, variables.label_kind, lr, tuple(losses), decoder)


def _with_decoder(variables: Variables, task: Task) -> Variables:
    """Return the variables with the decoder's, if the run trains it; Adam, at a step size of its own."""
    decoder, joint = task.codec_parameters(), task.space.codec.joint
    if not decoder or joint is None:
        return variables
    return replace(variables, decoder=decoder, decoder_optimizer=torch.optim.Adam(list(decoder.values()), lr=joint.lr))


def _shared(ours: Group, loss: Tensor, variables: Variables) -> Tensor:
    """Add up loss and gradients of all classes over the processes; return the loss."""
    if ours.size == 1:
        return loss
    for tensor in variables.tensors().values():
        ours.sum_(tensor.grad if tensor.grad is not None else torch.zeros_like(tensor))
    return ours.sum_(loss.detach().clone())


def _as_stored(method: Matching, task: Task, codes: Tensor) -> Task:
    """Return the task that shows codes as the initial ones would be stored, if the method asks for it.

    The steps stay those of the initial codes, so that a continued run sees the same.
    """
    storage = task.services.storage
    if method.rate is None or storage is None:
        return task
    return replace(task, rounding=storage.fitted(codes.detach()))


def _losses_of(losses: Iterator[Tensor]) -> Iterator[Tensor]:
    if isinstance(losses, Tensor):
        raise TypeError("iteration(task, variables, step) must yield its loss instead of returning it")
    return losses


def _check_finite(loss: float, variables: Variables, step: int) -> float:
    if math.isfinite(loss) and all(bool(torch.isfinite(t).all()) for t in variables.tensors().values()):
        return loss
    raise RunFailed(
        f"step {step}: the loss is {loss} or a code is not finite. The last finite checkpoint is kept; "
        "try a smaller algo.lr, or amp=off"
    )


def _save(task: Task, variables: Variables, losses: list[tuple[int, float]], step: int) -> None:
    if losses:
        _check_finite(losses[-1][1], variables, step)
    second = variables.decoder_optimizer
    task.checkpoint.save(
        {
            "step": step,
            "variables": {k: t.detach().cpu() for k, t in variables.tensors().items()},
            "optimizer": variables.optimizer.state_dict(),
            **({} if second is None else {"decoder_optimizer": second.state_dict()}),
            "losses": losses,
        }
    )


def _restore(saved: dict[str, Any] | None, variables: Variables, losses: list[tuple[int, float]]) -> int:
    if saved is None:
        return 0
    with torch.no_grad():
        for name, tensor in variables.tensors().items():
            tensor.copy_(saved["variables"][name])
    variables.optimizer.load_state_dict(saved["optimizer"])
    if variables.decoder_optimizer is not None:
        variables.decoder_optimizer.load_state_dict(saved["decoder_optimizer"])
    losses.extend((int(s), float(v)) for s, v in saved["losses"])
    return int(saved["step"])
