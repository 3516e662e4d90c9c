"""Original implementations, run from their own checkouts beside ours. None of their code is here.

Their scripts are started as they are. What is replaced from outside is what this machine lacks (downloads, trackers,
renamed imports), the evaluation, the clock they take seeds from, and taps that note what passes: weights, batches,
seeds, loss and gradient. The mathematics that remains is theirs.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import sys
import tempfile
import time
import types
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MISSING = ("scipy.ndimage.interpolation", "wandb", "kornia", "hiplot")


class Enough(Exception):
    """Raised inside a peer's loop once enough has been seen."""


@dataclass
class Seen:
    """The inputs and outputs of one outer step of a peer."""

    start: Tensor | None = None  # the synthetic images before the step
    weights: list[Tensor] = field(default_factory=list)  # of the fresh network
    batches: list[Any] = field(default_factory=list)  # every random order of a class's positions
    orders: list[Tensor] = field(default_factory=list)  # every random order of the synthetic set
    seeds: list[int] = field(default_factory=list)  # every seed taken from the clock
    epochs: list[int] = field(default_factory=list)  # start epochs
    loss: float = float("nan")
    gradients: list[Tensor] = field(default_factory=list)  # of what the first optimisers hold


@contextlib.contextmanager
def checkout(path: Path) -> Iterator[None]:
    """Imports resolve to the checkout, the working folder is a scratch one, missing modules are empty ones."""
    before, here, words = dict(sys.modules), Path.cwd(), sys.argv
    for name in MISSING:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = _empty(name)
    sys.path.insert(0, str(path))
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        os.chdir(scratch)
        try:
            yield
        finally:
            os.chdir(here)
            sys.path.remove(str(path))
            sys.argv = words
            for name in set(sys.modules) - set(before):
                if str(path) in str(getattr(sys.modules[name], "__file__", None)):
                    del sys.modules[name]


def _empty(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(rotate=None, __path__=[])
    if name == "wandb":
        config = Namespace(_items={})
        module.__dict__.update(
            config=config,
            run=Namespace(name="run"),
            init=lambda **k: config._items.update(vars(k["config"])),
            log=lambda *_, **__: None,
            finish=lambda: None,
            Histogram=lambda *_, **__: None,
            Image=lambda *_, **__: None,
        )
    return module


def condensation(path: Path, script: str, words: list[str], real: tuple[Tensor, Tensor], steps: int) -> list[float]:
    """Seconds of each outer iteration of DatasetCondensation's `main_DM.py` or `main.py`, after one not counted.

    Args:
        path: the checkout.
        script: module name, `main_DM` or `main`.
        words: its command line.
        real: standardised images float32 (N, C, H, W) and labels int64 (N,).
        steps: iterations to time.
    """
    ticks: list[float] = []

    def tick(network: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            ticks.append(time.perf_counter())
            if len(ticks) > steps + 2:
                raise Enough
            return network(*args, **kwargs)

        return timed

    with checkout(path):
        module = _condensation_module(script, words, real)
        module.get_network = tick(module.get_network)
        with contextlib.suppress(Enough):
            module.main()
    return [b - a for a, b in itertools.pairwise(ticks[1:])]


def condensation_step(path: Path, script: str, words: list[str], real: tuple[Tensor, Tensor]) -> Seen:
    """Return the inputs and outputs of the first matching step of DatasetCondensation's `main_DM.py` or `main.py`."""
    seen = Seen()
    with checkout(path):
        module = _condensation_module(script, words, real)
        module.get_network = _noting_weights(module.get_network, seen)
        module.np = _Tapped(seen)
        module.time = Namespace(time=_counting_clock(seen), localtime=time.localtime, strftime=time.strftime)
        with _noting_gradients(seen, count=1), contextlib.suppress(Enough):
            module.main()
    return seen


@dataclass
class Distilled:
    """The start and the end of a peer's whole run."""

    start: Tensor  # float32 (M, C, H, W), standardised, class by class
    images: Tensor
    lr: float | None = None  # the student's learned rate


def condensation_run(
    path: Path,
    script: str,
    words: list[str],
    real: tuple[Tensor, Tensor],
    steps: int,
    seed: int,
    loops: tuple[int, int] | None = None,
) -> Distilled:
    """Return the set that DatasetCondensation makes in `steps` outer iterations.

    Args:
        path: the checkout.
        script: module name, `main_DM` or `main`.
        words: its command line.
        real: standardised images float32 (N, C, H, W) and labels int64 (N,).
        steps: outer iterations.
        seed: of the global generators, and where the counted clock starts.
        loops: outer and inner loops in place of those it knows for its IPC.
    """
    with checkout(path), _holding(seed) as held:
        module = _condensation_module(script, words, real)
        module.get_network = _leaving(module.get_network, steps)
        clock = _counting_clock(Seen(), first=1_000_000 * seed)
        module.time = Namespace(time=clock, localtime=time.localtime, strftime=time.strftime)
        if loops:
            module.get_loops = lambda _: loops
        with contextlib.suppress(Enough):
            module.main()
    return Distilled(held[0][0], held[0][1].detach().clone())


def trajectories(
    path: Path, options: dict[str, Any], real: tuple[Tensor, Tensor], experts: list[list[list[Tensor]]], steps: int = 0
) -> tuple[Seen, list[float]]:
    """mtt-distillation's `distill.py` on given experts: its first outer step as seen, or seconds of `steps` steps.

    Args:
        path: the checkout.
        options: its command line as a mapping; the rest are its own defaults.
        real: standardised images and labels.
        experts: weights, by expert and epoch.
        steps: 0 notes the first step; otherwise so many are timed after one not counted.
    """
    seen, ticks = Seen(), []
    with checkout(path):
        module, args = _trajectory_module(options, real, experts)
        network = module.get_network

        def noted(*a: Any, **k: Any) -> Any:
            ticks.append(time.perf_counter())
            if steps and len(ticks) > steps + 2:
                raise Enough
            return network(*a, **k)

        module.get_network = noted
        module.np = _Tapped(seen)
        watch = _noting_gradients(seen, count=2) if not steps else contextlib.nullcontext()
        with watch, _noting_orders(seen), _without_accelerator(), contextlib.suppress(Enough):
            module.main(args)
    return seen, [b - a for a, b in itertools.pairwise(ticks[1:])]


def trajectories_run(
    path: Path,
    options: dict[str, Any],
    real: tuple[Tensor, Tensor],
    experts: list[list[list[Tensor]]],
    steps: int,
    seed: int,
) -> Distilled:
    """Return the set that mtt-distillation's `distill.py` makes of given experts; arguments as above."""
    with checkout(path), _holding(seed) as held:
        module, args = _trajectory_module(options, real, experts)
        module.get_network = _leaving(module.get_network, steps)
        with _without_accelerator(), contextlib.suppress(Enough):
            module.main(args)
    return Distilled(held[0][0], held[0][1].detach().clone(), float(held[1][1].detach()))


def evaluation(
    path: Path, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], epochs: int, networks: int
) -> tuple[list[float], list[float]]:
    """DatasetCondensation's `evaluate_synset`: seconds and accuracy of each of several networks, the first not timed.

    Args:
        path: the checkout.
        train: standardised images float32 (M, C, H, W) and labels int64 (M,).
        test: the same of the test split.
        epochs: of training, with Siamese augmentation's operations.
        networks: how many; one more is trained first.
    """
    seconds, accuracies = [], []
    with checkout(path):
        utils = importlib.import_module("utils")
        strategy = "color_crop_cutout_flip_scale_rotate"
        args = Namespace(device="cpu", lr_net=0.01, epoch_eval_train=epochs, batch_train=256, dsa=True)
        args.dsa_strategy, args.dsa_param, args.dc_aug_param = strategy, utils.ParamDiffAug(), None
        loader = torch.utils.data.DataLoader(_Pairs(*test), batch_size=256)
        for number in range(networks + 1):
            network = utils.get_network("ConvNet", train[0].shape[1], 10, tuple(train[0].shape[2:]))
            start = time.perf_counter()
            _, _, accuracy = utils.evaluate_synset(number, network, *train, loader, args)
            if number:
                seconds.append(time.perf_counter() - start)
                accuracies.append(float(accuracy))
    return seconds, accuracies


def _leaving(network: Callable[..., Any], steps: int) -> Callable[..., Any]:
    """Leaves the peer's loop when it asks for the network of one iteration more."""
    asked = itertools.count()

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(asked) == steps:
            raise Enough
        return network(*args, **kwargs)

    return counted


@contextlib.contextmanager
def _holding(seed: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Seed the global generators; collect what each optimiser holds: its first value and the tensor itself."""
    plain, held = torch.optim.SGD, []

    class Holding(plain):  # type: ignore[misc, valid-type]
        def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(params, *args, **kwargs)
            if len(held) < 2:
                tensor = self.param_groups[0]["params"][0]
                held.append((tensor.detach().clone(), tensor))

    torch.manual_seed(seed)
    np.random.seed(seed)
    torch.optim.SGD = Holding  # type: ignore[misc]
    try:
        yield held
    finally:
        torch.optim.SGD = plain  # type: ignore[misc]


def _condensation_module(script: str, words: list[str], real: tuple[Tensor, Tensor]) -> Any:
    images, labels = real
    module = importlib.import_module(script)
    classes, channel, size = int(labels.max()) + 1, images.shape[1], tuple(images.shape[2:])
    names = [str(c) for c in range(classes)]
    answer = (channel, size, classes, names, [0.0] * channel, [1.0] * channel, _Pairs(images, labels), None, None)
    module.get_dataset = lambda *_, **__: answer
    module.save_image = lambda *_, **__: None
    module.np = _Tapped(Seen())
    sys.argv = [script, *words, "--num_eval", "0", "--num_exp", "1"]
    return module


def _trajectory_module(
    options: dict[str, Any], real: tuple[Tensor, Tensor], experts: list[list[list[Tensor]]]
) -> tuple[Any, Namespace]:
    module = importlib.import_module("distill")
    args = Namespace(**{**_trajectory_defaults(), **options})
    folder = Path("buffers", args.dataset, args.subset, str(args.res), args.model)
    if args.dataset != "ImageNet":
        folder = Path("buffers", f"{args.dataset}_NO_ZCA", args.model)
    folder.mkdir(parents=True)
    torch.save(experts, folder / "replay_buffer_0.pt")
    module.get_dataset = lambda *_, **__: _trajectory_data(real)
    return module, args


def _trajectory_data(real: tuple[Tensor, Tensor]) -> tuple[Any, ...]:
    images, labels = real
    classes, channel, size = int(labels.max()) + 1, images.shape[1], tuple(images.shape[2:])
    same = {c: c for c in range(classes)}
    names = [str(c) for c in range(classes)]
    means = [0.0] * channel
    return (channel, size, classes, names, means, [1.0] * channel, _Pairs(images, labels), None, None, None, same, same)


def _trajectory_defaults() -> dict[str, Any]:
    """The options `distill.py` reads, with the values its own command line gives them."""
    values = {
        "dataset": "CIFAR10",
        "subset": "imagenette",
        "model": "ConvNet",
        "res": 128,
        "ipc": 1,
        "eval_mode": "S",
        "num_eval": 0,
        "eval_it": 10**6,
        "epoch_eval_train": 1000,
        "Iteration": 5000,
        "lr_img": 1000,
        "lr_lr": 1e-5,
        "lr_teacher": 0.01,
        "lr_init": 0.01,
        "batch_real": 256,
        "batch_train": 256,
        "pix_init": "real",
        "dsa": "True",
        "dsa_strategy": "color_crop_cutout_flip_scale_rotate",
        "data_path": "data",
        "buffer_path": "buffers",
        "expert_epochs": 3,
        "syn_steps": 20,
        "max_start_epoch": 25,
        "canvas_size": 2,
        "canvas_samples": 1,
    }
    nothing = dict.fromkeys(("batch_syn", "max_files", "max_experts"))
    off = dict.fromkeys(("zca", "load_all", "no_aug", "texture", "force_save"), False)
    return {**values, **nothing, **off}


class _Pairs:
    """A dataset whose labels are plain numbers, as torchvision's are."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images, labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index], self._labels[index]


class _Tapped:
    """NumPy that notes its random orders and start epochs, and knows the mean of no evaluations."""

    def __init__(self, seen: Seen) -> None:
        self.random = Namespace(
            permutation=lambda x: self._note(seen.batches, np.random.permutation(x)),
            randint=lambda *a: self._note(seen.epochs, int(np.random.randint(*a))),
        )

    @staticmethod
    def _note(where: list[Any], value: Any) -> Any:
        where.append(value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def mean(values: Any) -> Any:
        return np.mean(values) if len(values) else 0.0

    @staticmethod
    def std(values: Any) -> Any:
        return np.std(values) if len(values) else 0.0


def _counting_clock(seen: Seen, first: int = 0) -> Callable[[], float]:
    def now() -> float:
        seen.seeds.append(first + len(seen.seeds) + 1)
        return (seen.seeds[-1] + 0.5) / 1000  # they take int(1000 * now) as a seed

    return now


def _noting_weights(network: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        built = network(*args, **kwargs)
        seen.weights = [p.detach().clone() for p in built.parameters()]
        return built

    return noted


@contextlib.contextmanager
def _noting_gradients(seen: Seen, count: int) -> Iterator[None]:
    """Note the loss, and the gradients of the first `count` optimisers at their first step; then leave."""
    plain, backward = torch.optim.SGD, Tensor.backward
    made = itertools.count()

    class Noted(plain):  # type: ignore[misc, valid-type]
        def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(params, *args, **kwargs)
            self.number = next(made)

        def step(self, closure: Any = None) -> None:
            if self.number < count:
                held = self.param_groups[0]["params"][0]
                seen.start = held.detach().clone() if self.number == 0 else seen.start
                seen.gradients.append(held.grad.detach().clone())
                if len(seen.gradients) == count:
                    raise Enough

    def noted(self: Tensor, *args: Any, **kwargs: Any) -> None:
        seen.loss = float(self.detach())
        backward(self, *args, **kwargs)

    torch.optim.SGD, Tensor.backward = Noted, noted  # type: ignore[misc, method-assign, assignment]
    try:
        yield
    finally:
        torch.optim.SGD, Tensor.backward = plain, backward  # type: ignore[misc, method-assign]


@contextlib.contextmanager
def _noting_orders(seen: Seen) -> Iterator[None]:
    plain = torch.randperm

    def noted(*args: Any, **kwargs: Any) -> Tensor:
        seen.orders.append(plain(*args, **kwargs))
        return seen.orders[-1]

    torch.randperm = noted
    try:
        yield
    finally:
        torch.randperm = plain


@contextlib.contextmanager
def _without_accelerator() -> Iterator[None]:
    plain = Tensor.cuda
    if not torch.cuda.is_available():
        Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.cuda = plain  # type: ignore[method-assign]
