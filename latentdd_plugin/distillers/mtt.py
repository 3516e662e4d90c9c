"""MTT: matching training trajectories (Cazenavette et al., arXiv 2203.11932).

Equation 2: a student starts at an expert's weights theta*_t, takes N steps on the synthetic set with the learned rate
alpha, and shall arrive where the expert was M epochs later:

    L = || theta_{t+N} - theta*_{t+M} ||^2  /  || theta*_t - theta*_{t+M} ||^2.

The gradient runs back through all N steps. Here memory does not grow with them and the gradient is exact: only the
student's weights are kept, and on the way back each step is worked out again. With g_n the gradient of the student's
loss on batch x_n, theta_{n+1} = theta_n - alpha g_n, and lambda_N = dL/dtheta_N,

    dL/dx_n = -alpha d<lambda_{n+1}, g_n>/dx_n,      dL/dalpha = -sum <lambda_{n+1}, g_n>,
    lambda_n = lambda_{n+1} - alpha d<lambda_{n+1}, g_n>/dtheta_n.

TESLA (Cui et al., arXiv 2211.10586) leaves out the last line: `gradient=tesla`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentdd_plugin.distillers.experts import Experts, Training, flat_distance, prepare
from latentdd_plugin.distillers.gradients import Gradients, Weights, with_gradient
from latentdd_plugin.distillers.loop import INITS, Matching, Variables, one_of
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.nn.augment import Draw

GRADIENTS = ("exact", "tesla", "unrolled")


@dataclass(frozen=True)
class Step:
    """One step of the student: which samples, under which augmentation."""

    rows: Tensor  # int64 (b,)
    draw: Draw | None


class MTT(Matching):
    """Matching training trajectories.

    Args:
        iterations: outer steps (paper: 5000).
        lr: step size of the codes (paper: 1000 at one image a class, with SGD).
        momentum: of the optimiser on codes, labels and rate (paper: 0.5).
        syn_steps: N, student steps an outer step.
        expert_epochs: M, epochs of the expert that they shall cover.
        max_start_epoch: t is drawn below it.
        batch_syn: synthetic samples a student step; None takes all of them.
        lr_student: where the learned rate alpha starts (paper: 0.01).
        lr_lr: step size of alpha.
        experts, lr_expert, batch_expert, expert_precision: how the trajectories are trained and stored; only the
            epochs that can be asked for, max_start_epoch + expert_epochs, are trained.
        gradient: `exact` (flat memory), `tesla` (its approximation) or `unrolled` (the reference, memory grows with N).
        labels: `hard`, or `soft`: logits learned beside the codes, started from the experts' own (as in DATM, arXiv
            2310.05773); their bytes are part of the budget.
        lr_labels: step size of soft labels.
        init: `real` or `noise`.
        optimizer: `sgd` (paper) or `adam`. MTT's gradient falls as the expert's way grows, so that SGD's step has to be
            found anew for each N, M and data set; Adam's does not.
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

    def __init__(
        self,
        iterations: int = 5000,
        lr: float = 1000.0,
        momentum: float = 0.5,
        syn_steps: int = 50,
        expert_epochs: int = 2,
        max_start_epoch: int = 2,
        batch_syn: int | None = None,
        lr_student: float = 0.01,
        lr_lr: float = 1e-7,
        experts: int = 100,
        lr_expert: float = 0.01,
        batch_expert: int = 256,
        expert_precision: str = "fp32",
        gradient: str = "exact",
        labels: str = "hard",
        lr_labels: float = 1.0,
        init: str = "real",
        optimizer: str = "sgd",
    ) -> None:
        self.iterations = iterations
        self.lr = lr
        self.momentum = momentum
        self.syn_steps = syn_steps
        self.expert_epochs = expert_epochs
        self.max_start_epoch = max_start_epoch
        self.batch_syn = batch_syn
        self.lr_student = lr_student
        self.lr_lr = lr_lr
        self.experts = experts
        self.lr_expert = lr_expert
        self.batch_expert = batch_expert
        self.expert_precision = expert_precision
        self.gradient = one_of("gradient", gradient, GRADIENTS)
        self.labels = one_of("labels", labels, ("hard", "soft"))
        self.lr_labels = lr_labels
        self.init = one_of("init", init, INITS)
        self.optimizer = optimizer

    def label_bits(self, num_classes: int) -> int:
        """Soft labels are stored as float32 logits."""
        return 32 * num_classes if self.labels == "soft" else 0

    def variables(self, task: Task) -> Variables:
        """Codes, the student's rate, and logits where labels are learned."""
        codes, labels = task.init(self.init)
        codes.requires_grad_()
        rate = torch.tensor(self.lr_student, device=task.device, requires_grad=True)
        groups = [{"params": [codes], "lr": self.step_size(task)}, {"params": [rate], "lr": self.lr_lr}]
        kind = "hard"
        if self.labels == "soft":
            labels, kind = self._first_logits(task, codes, labels).requires_grad_(), "logits"
            groups.append({"params": [labels], "lr": self.lr_labels})
        return Variables(codes, labels, self.optimizer_of(groups), rate, kind)

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield the normalised distance between where the student arrives and where the expert was."""
        experts, g = self._experts(task), task.generator("mtt/start", step)
        expert, start = (int(torch.randint(n, (1,), generator=g)) for n in (self.experts, self.max_start_epoch))
        begin, target = experts.snapshot(expert, start), experts.snapshot(expert, start + self.expert_epochs)
        steps = self._steps(task, len(variables.codes), step)
        view, labels = task.view(variables.codes), variables.labels
        targets = labels.softmax(1) if labels.is_floating_point() else labels
        if variables.lr is None:
            raise ValueError("MTT learns its student's rate: variables.lr is needed")
        if self.gradient == "unrolled":
            yield unrolled(self._gradients(task), task, steps, begin, target, view, targets, variables.lr)
            return
        yield adjoint(
            self._gradients(task),
            task,
            steps,
            begin,
            target,
            view,
            targets,
            variables.lr,
            exact=self.gradient == "exact",
        )

    def _steps(self, task: Task, samples: int, step: int) -> list[Step]:
        """The student's batches: one random order of the synthetic set after another, cut into batches."""
        order, draws = task.generator("mtt/order", step), task.generator("mtt/augment", step)
        size = min(self.batch_syn or samples, samples)
        queue: list[Tensor] = []
        steps = []
        for _ in range(self.syn_steps):
            if not queue:
                queue = [rows for rows in torch.randperm(samples, generator=order).split(size) if len(rows) == size]
            rows = queue.pop(0)
            steps.append(Step(rows.to(task.device), task.augment.draw(draws, len(rows))))
        return steps

    def _experts(self, task: Task) -> Experts:
        def make() -> Experts:
            epochs = self.max_start_epoch - 1 + self.expert_epochs
            training = Training(self.experts, epochs, self.lr_expert, self.batch_expert, self.expert_precision)
            return prepare(task, training)

        experts: Experts = task.once("mtt/experts", make)
        return experts

    def _gradients(self, task: Task) -> Gradients:
        """Float32 always: the adjoint multiplies small differences."""
        samples = min(self.batch_syn or 10**9, task.codes_per_class * task.num_classes)
        mode = task.numerics.mode(task.flops(self.iterations * self.syn_steps * samples * 9))
        return task.gradients(type(mode)(False, mode.compile, mode.device))

    def _first_logits(self, task: Task, codes: Tensor, labels: Tensor) -> Tensor:
        """The experts' mean logits on the first codes; where they name another class, the label's own is put on top."""
        experts, network = self._experts(task), task.network("mtt/expert", 0)
        names = [name for name, _ in network.named_parameters()]
        last = experts.training.epochs
        with torch.no_grad():
            view = task.view(codes)
            total = sum(
                torch.func.functional_call(network, dict(zip(names, experts.snapshot(e, last), strict=True)), (view,))
                for e in range(self.experts)
            )
            logits: Tensor = total / self.experts
            own = logits.gather(1, labels[:, None])
            short = (logits.amax(1, keepdim=True) + 1 - own) * (logits.argmax(1) != labels)[:, None]
            return logits.scatter(1, labels[:, None], own + short)


def _batch(task: Task, step: Step, view: Tensor) -> Tensor:
    return task.augment.apply(view[step.rows], step.draw)


def adjoint(
    gradients: Gradients,
    task: Task,
    steps: list[Step],
    begin: Weights,
    target: Weights,
    view: Tensor,
    labels: Tensor,
    rate: Tensor,
    *,
    exact: bool,
) -> Tensor:
    """The loss with its gradient in view, rate and soft labels, worked out one student step at a time."""
    alpha = rate.detach()
    leaf = view.detach().requires_grad_()
    soft = labels.is_floating_point()
    states, weights = [], begin
    for step in steps:
        states.append(weights)
        with torch.no_grad():
            g = gradients.at(weights, _batch(task, step, leaf), labels.detach()[step.rows])
        weights = tuple(w - alpha * d for w, d in zip(weights, g, strict=True))
    scale = flat_distance(begin, target)
    value = flat_distance(weights, target) / scale
    along: Weights = tuple(2 * (w - t) / scale for w, t in zip(weights, target, strict=True))
    d_view, d_labels, d_rate = (
        torch.zeros_like(leaf),
        torch.zeros_like(labels) if soft else None,
        torch.zeros_like(alpha),
    )
    for step, before in zip(reversed(steps), reversed(states), strict=True):
        x = _batch(task, step, leaf)
        product, d_weights, d_x, d_y = gradients.pull(before, x.detach(), labels.detach()[step.rows], along)
        d_view += torch.autograd.grad(x, leaf, -alpha * d_x)[0]
        if d_labels is not None and d_y is not None:
            d_labels.index_add_(0, step.rows, -alpha * d_y)
        d_rate -= product
        if exact:
            along = tuple(a - alpha * d for a, d in zip(along, d_weights, strict=True))
    known = [(view, d_view), (rate, d_rate)]
    if d_labels is not None:
        known.append((labels, d_labels))
    return with_gradient(value, known)


def unrolled(
    gradients: Gradients,
    task: Task,
    steps: list[Step],
    begin: Weights,
    target: Weights,
    view: Tensor,
    labels: Tensor,
    rate: Tensor,
) -> Tensor:
    """The loss with the whole student training in one graph, as the authors wrote it: the reference."""
    weights = tuple(w.requires_grad_() for w in begin)
    for step in steps:
        loss = gradients.loss(weights, _batch(task, step, view), labels[step.rows])
        g = torch.autograd.grad(loss, weights, create_graph=True)
        weights = tuple(w - rate * d for w, d in zip(weights, g, strict=True))
    return flat_distance(weights, target) / flat_distance(begin, target).detach()
