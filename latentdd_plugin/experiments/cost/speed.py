"""The speed of networks on this machine, measured in a second or so, or assumed.

Nothing here draws from the run's generators, compiles, or touches a network of the run.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdd_plugin.core.compute import Mode, forward_flops
from latentdd_plugin.core.types import Shape
from latentdd_plugin.evaluators.protocols import Protocol
from latentdd_plugin.evaluators.train_scratch import make_optimizer

log = logging.getLogger(__name__)

LIMIT_S = 0.5  # seconds that the measurement of one kind of work may take
PROBE_S = 0.03  # seconds that one measured call is meant to take: short, so that some calls meet no other program
NOMINAL = 4e10  # floating-point operations per second, if nothing was measured
SMALL_S = 3.0  # work below this many seconds, at the nominal speed, is not measured
STEP_S = 2e-3  # of an optimiser's step beside the arithmetic, where no step was measured
COMPILE_S = 25.0  # of torch.compile for one network in both directions
COMPILED = 1.4  # times a compiled step is faster than a plain one
SMALL_INPUT = 1 << 14  # values of an input up to which a real pass counts operations faster than a pretended one


@dataclass(frozen=True)
class Duration:
    """Estimated seconds, and what they rest on."""

    seconds: float
    basis: str  # measured | counted (operations at the nominal speed) | assumed (at a speed that the caller gave)

    def __add__(self, other: Duration) -> Duration:
        """Return the sum; it rests on the weaker of the two."""
        order = ("measured", "counted", "assumed")
        return Duration(self.seconds + other.seconds, max(self.basis, other.basis, key=order.index))


NOTHING = Duration(0.0, "measured")


@dataclass(frozen=True)
class Census:
    """Operations and memory of one forward pass on one sample."""

    flops: float
    activations: int  # bytes of the outputs of all layers, which training keeps
    largest: int  # bytes of the largest of them


def census(function: Callable[[Tensor], Any], modules: nn.Module | None, shape: Shape, device: str = "cpu") -> Census:
    """Count one forward pass on one sample (C, H, W) without computing it; zeros where it cannot be counted.

    Args:
        function: takes (n, C, H, W).
        modules: what holds its layers, whose outputs are added up; None counts no outputs.
        shape: of the sample.
        device: of the layers.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    sizes: list[int] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        sizes.append(output.numel() * output.element_size() if isinstance(output, Tensor) else 0)

    leaves = [] if modules is None else [each for each in modules.modules() if not list(each.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        if math.prod(shape) <= SMALL_INPUT:
            flops = forward_flops(function, shape, device)  # of two samples
            return Census(flops, sum(sizes) // 2, max(sizes, default=0) // 2)
        counter = FlopCounterMode(display=False)
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), counter:
            function(torch.zeros((1, *shape), device=device))
        return Census(float(counter.get_total_flops()), sum(sizes), max(sizes, default=0))
    except Exception as error:  # a codec that cannot be run on tensors without values
        log.debug("not counted: %s", error)
        return Census(0.0, 0, 0)
    finally:
        for hook in hooks:
            hook.remove()


class Speed:
    """Measures a few calls of each kind of work, and turns amounts of work into seconds.

    Args:
        device: where the networks run.
        assumed: floating-point operations per second to reckon with instead; None measures.
        clock: gives seconds.
    """

    def __init__(
        self, device: str, assumed: float | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.device, self.assumed, self._clock = device, assumed, clock
        self._rate: float | None = None  # of the last measurement
        self._measured: dict[tuple[nn.Module | None, int, bool], float] = {}  # seconds per sample of training

    def operations(self, flops: float) -> Duration:
        """Return the time of so many operations outside of networks."""
        return Duration(flops / (self.assumed or NOMINAL), "assumed" if self.assumed else "counted")

    def forward(
        self, function: Callable[[Tensor], Any], shape: Shape, counted: Census, samples: float, batch: int, mode: Mode
    ) -> Duration:
        """Return the time of forward passes over so many samples (C, H, W), a batch at a time."""

        def call(count: int) -> None:
            with torch.no_grad(), mode.autocast():
                function(torch.zeros((count, *shape), device=self.device))

        return self._timed(call, counted.flops, samples, batch, mode)

    def one_call(self, call: Callable[[], Any], calls: float) -> Duration:
        """Return the time of so many calls, from a single one, which takes as long as it takes."""
        begun = self._clock()
        with torch.no_grad():
            call()
        return Duration(calls * (self._clock() - begun), "measured")

    def training(
        self, network: nn.Module, shape: Shape, counted: Census, steps: float, batch: int, mode: Mode, recipe: Protocol
    ) -> Duration:
        """Return the time of so many steps of a recipe on batches of samples (C, H, W). Changes the network."""
        network.to(self.device).train()
        optimizer = make_optimizer(network, recipe, recipe.lr)

        def call(count: int) -> None:
            with mode.autocast():
                logits = network(torch.zeros((count, *shape), device=self.device))
                loss = F.cross_entropy(logits, torch.zeros(count, dtype=torch.long, device=self.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        found = self._timed(call, 3 * counted.flops, steps * batch, batch, mode, known=network)
        return found if found.basis == "measured" else found + Duration(steps * STEP_S, found.basis)

    def _timed(
        self,
        call: Callable[[int], None],
        flops: float,
        samples: float,
        batch: int,
        mode: Mode,
        known: nn.Module | None = None,
    ) -> Duration:
        """Return the time of calls over all samples; `flops` are those of one sample.

        With a network in `known`, a later call with as many samples is not measured again.
        """
        total = flops * samples
        if self.assumed:
            return Duration(total / self.assumed, "assumed")
        compiling = COMPILE_S if mode.compile else 0.0
        count = self._affordable(flops, batch)
        if total < SMALL_S * NOMINAL or count == 0:
            return Duration(total / (self._rate or NOMINAL) + compiling, "counted")
        key = (known, count, mode.amp)
        if known is None or key not in self._measured:
            self._measured[key] = self._seconds(call, count) / count
        per_sample = self._measured[key]
        self._rate = flops / per_sample if flops else self._rate
        return Duration(samples * per_sample / (COMPILED if mode.compile else 1.0) + compiling, "measured")

    def _affordable(self, flops: float, batch: int) -> int:
        """Return how many samples a measured call takes: up to a batch; none if one alone is too slow.

        A network of few operations per sample says little about the next one's speed, because its calls wait for each
        other: as many samples are taken as the nominal speed allows, so that a call's fixed cost is not multiplied.
        """
        rate = max(self._rate or NOMINAL, NOMINAL)
        if 2 * flops / rate > LIMIT_S:
            return 0
        return max(1, min(batch, int(PROBE_S * rate / flops) if flops else batch))

    def _seconds(self, call: Callable[[int], None], count: int) -> float:
        times, ends = [], self._clock() + LIMIT_S
        for _ in range(8):  # the first one allocates memory and chooses algorithms
            begun = self._clock()
            call(count)
            if self.device != "cpu":
                torch.cuda.synchronize()
            times.append(self._clock() - begun)
            if self._clock() > ends:
                break
        return min(times)
