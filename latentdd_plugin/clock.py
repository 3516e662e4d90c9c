"""What a run shows and measures of its own time. Nothing here changes a number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from tqdm import tqdm


class Clock:
    """Wall seconds of named stages, and of distillation steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.steps: list[float] = []
        self._tick = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last lap belongs to this stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._tick
        self._tick = now

    def step_ms(self) -> float | None:
        """Median milliseconds between the ends of steps; None with fewer than two."""
        gaps = [b - a for a, b in zip(self.steps, self.steps[1:], strict=False)]
        return round(1000 * median(gaps), 3) if gaps else None

    @contextmanager
    def watch_steps(self, show: bool) -> Iterator[Callable[[int, int, float], None]]:
        """A callback for (steps done, steps in all, loss) that notes times and, where wanted, draws a bar."""
        bar: tqdm[None] = tqdm(unit="step", desc="distil", disable=not show, leave=False)

        def step(done: int, total: int, loss: float) -> None:
            self.steps.append(time.perf_counter())
            bar.total = total
            bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            bar.update(done - bar.n)

        with bar:
            yield step
