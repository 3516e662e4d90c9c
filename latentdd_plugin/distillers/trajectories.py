"""Matching of training trajectories, as MTT (Cazenavette et al., arXiv 2203.11932) and what follows it do.

Equation 2: a student starts at an expert's weights theta*_t, takes N steps on the synthetic set with the learned rate
alpha, and should arrive at the expert's weights of M epochs later:

    L = || theta_{t+N} - theta*_{t+M} ||^2  /  || theta*_t - theta*_{t+M} ||^2.

The gradient runs back through all N steps. Here it is exact, and no graph of them is in memory: only the student's
weights are kept, and the backward pass computes each step again. With g_n the gradient of the student's loss on batch
x_n, theta_{n+1} = theta_n - alpha g_n, and lambda_N = dL/dtheta_N,

    dL/dx_n = -alpha d<lambda_{n+1}, g_n>/dx_n,      dL/dalpha = -sum <lambda_{n+1}, g_n>,
    lambda_n = lambda_{n+1} - alpha d<lambda_{n+1}, g_n>/dtheta_n.

TESLA (Cui et al., arXiv 2211.10586) leaves out the last line: `gradient=tesla`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from latentdd_plugin.distillers.experts import Experts, ExpertTraining, flat_distance, obtain_experts
from latentdd_plugin.distillers.gradients import Gradients, Weights, with_gradient
from latentdd_plugin.distillers.loop import INITS, Matching, Variables, one_of
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work
from latentdd_plugin.nn.augment import Draw

GRADIENTS = ("exact", "tesla", "unrolled")


@dataclass(frozen=True)
class Step:
    """One step of the student: its samples and their augmentation."""

    rows: Tensor  # int64 (b,)
    draw: Draw | None


@dataclass
class TrajectoryMatching(Matching):
    """Base of the methods whose student follows experts. Its options are those of MTT, where they are explained."""

    iterations: int = 5000
    lr: float = 1000.0
    momentum: float = 0.5
    syn_steps: int = 50
    expert_epochs: int = 2
    max_start_epoch: int = 2
    batch_syn: int | None = None
    lr_student: float = 0.01
    lr_lr: float = 1e-7
    experts: int = 100
    lr_expert: float = 0.01
    batch_expert: int = 256
    expert_precision: str = "fp32"
    gradient: str = "exact"
    labels: str = "hard"
    lr_labels: float = 1.0
    init: str = "real"
    optimizer: str = "sgd"
    rate: float | None = None

    def __post_init__(self) -> None:
        one_of("gradient", self.gradient, GRADIENTS)
        one_of("labels", self.labels, ("hard", "soft"))
        one_of("init", self.init, INITS)

    def label_bits(self, num_classes: int) -> int:
        """Return 32 bits per class for soft labels, which are stored as float32 logits."""
        return 32 * num_classes if self.labels == "soft" else 0

    def prepare(self, task: Task) -> None:
        """Train the experts; the processes of a run share them."""
        self._experts(task)

    def variables(self, task: Task) -> Variables:
        """Return the codes, the student's rate, and logits if labels are learned."""
        codes, labels = self.start(task)
        codes.requires_grad_()
        rate = torch.tensor(self.lr_student, device=task.device, requires_grad=True)
        groups = [{"params": [codes], "lr": self.step_size(task)}, {"params": [rate], "lr": self.lr_lr}]
        kind = "hard"
        if self.labels == "soft":
            labels, kind = self._first_logits(task, codes, labels).requires_grad_(), "logits"
            groups.append({"params": [labels], "lr": self.lr_labels, **self.label_momentum})
        return Variables(codes, labels, self.optimizer_of(groups), rate, kind)

    @property
    def label_momentum(self) -> dict[str, float]:
        """Options of the optimiser for soft labels alone."""
        return {}

    def start(self, task: Task) -> tuple[Tensor, Tensor]:
        """Return the initial codes (M, c, h, w) and their classes int64 (M,)."""
        return task.init(self.init)

    def window(self, step: int) -> tuple[int, int]:
        """Return the first start epoch t that may be drawn at this step, and the first that may not."""
        return 0, self.max_start_epoch

    def iteration(self, task: Task, variables: Variables, step: int) -> Iterator[Tensor]:
        """Yield equation 2 for one expert and one start t: the student's distance to the expert, normalised."""
        experts, g = self._experts(task), task.generator("mtt/start", step)
        first, end = self.window(step)
        expert, t = (int(torch.randint(n, (1,), generator=g)) for n in (self.experts, end - first))
        t += first
        begin, target = experts.snapshot(expert, t), experts.snapshot(expert, t + self.expert_epochs)
        steps = self._steps(task, len(variables.codes), step)
        view, labels = task.view(variables.codes, variables.labels), variables.labels
        targets = labels.softmax(1) if labels.is_floating_point() else labels
        if variables.lr is None:
            raise ValueError("MTT learns the rate of its student: set variables.lr")
        distance = unrolled if self.gradient == "unrolled" else partial(adjoint, exact=self.gradient == "exact")
        yield distance(self._gradients(task), task, steps, begin, target, view, targets, variables.lr)

    def work(self, size: TaskSize) -> Work:
        """Return the experts' training, and the student's steps forth and back."""
        batch, epochs = min(self.batch_syn or size.codes, size.codes), self.max_start_epoch - 1 + self.expert_epochs
        steps = self.iterations * self.syn_steps
        return Work(
            steps,
            9 * steps * batch,
            self.iterations * size.codes,
            expert_passes=3 * self.experts * epochs * size.samples,
            snapshots=self.experts * (epochs + 1),
        )

    def _steps(self, task: Task, samples: int, step: int) -> list[Step]:
        """Return the student's steps: random orders of the synthetic set, one after another, cut into full batches."""
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
        epochs = self.max_start_epoch - 1 + self.expert_epochs
        training = ExpertTraining(self.experts, epochs, self.lr_expert, self.batch_expert, self.expert_precision)
        return obtain_experts(task, training)

    def _gradients(self, task: Task) -> Gradients:
        """Return gradients in float32, whatever the mode: the adjoint multiplies small differences."""
        samples = min(self.batch_syn or 10**9, task.codes_per_class * task.num_classes)
        mode = task.numerics.mode(task.flops(self.iterations * self.syn_steps * samples * 9))
        return task.gradients(replace(mode, amp=False))

    def _first_logits(self, task: Task, codes: Tensor, labels: Tensor) -> Tensor:
        """Return the experts' mean logits (M, classes) on the initial codes, the label's raised to the top."""
        with torch.no_grad():
            view = task.view(codes, labels)
            every = (self._expert_logits(task, expert, view) for expert in range(self.experts))
            return raised(sum(every, torch.zeros((), device=task.device)) / self.experts, labels)

    def _expert_logits(self, task: Task, expert: int, samples: Tensor) -> Tensor:
        """Return the logits (n, classes) of a fully trained expert on samples (n, c, h, w) of the match space."""
        experts, network = self._experts(task), task.networks.network
        names = [name for name, _ in network.named_parameters()]
        weights = dict(zip(names, experts.snapshot(expert, experts.training.epochs), strict=True))
        with torch.no_grad():
            logits: Tensor = torch.func.functional_call(network, weights, (samples,))
        return logits


def raised(logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits (M, classes) in which the label's is the largest: 1 above the others where it was not."""
    own = logits.gather(1, labels[:, None])
    missing = (logits.amax(1, keepdim=True) + 1 - own) * (logits.argmax(1) != labels)[:, None]
    return logits.scatter(1, labels[:, None], own + missing)


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
    """Return equation 2 with its gradients with respect to view, rate and soft labels, one student step at a time.

    Args:
        gradients: of the student's loss.
        task: gives the augmentation.
        steps: the N student steps.
        begin: theta*_t.
        target: theta*_{t+M}.
        view: synthetic samples (M, c, h, w) in the match space.
        labels: int64 (M,), or probabilities float32 (M, classes).
        rate: alpha, a scalar.
        exact: follow the last line of the equations above; TESLA leaves it out.
    """
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
    """Return equation 2 with the whole student training in one graph, as in the authors' code: the reference."""
    weights = tuple(w.requires_grad_() for w in begin)
    for step in steps:
        loss = gradients.loss(weights, _batch(task, step, view), labels[step.rows])
        g = torch.autograd.grad(loss, weights, create_graph=True)
        weights = tuple(w - rate * d for w, d in zip(weights, g, strict=True))
    return flat_distance(weights, target) / flat_distance(begin, target).detach()
