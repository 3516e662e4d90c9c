"""One progress over all stages of a run, in units of their estimated seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tqdm import tqdm

SHORT_S = 10.0  # a run estimated below this shows no bar of its own


class RunProgress:
    """A bar over the whole run, above those of the stages. Without a plan it shows nothing.

    Args:
        show: draw it, on stderr.
    """

    def __init__(self, *, show: bool = False) -> None:
        self._show, self._seconds = show, dict[str, float]()
        self._done: dict[str, float] = {}
        self._bar: tqdm[None] | None = None

    def plan(self, seconds: Mapping[str, float]) -> None:
        """Begin, with the estimated seconds of each stage in order."""
        self._seconds = dict(seconds)
        if self._show and sum(seconds.values()) >= SHORT_S:
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} spent, about {remaining} left"
            self._bar = tqdm(total=sum(seconds.values()), desc="run", bar_format=form, leave=False)

    @property
    def fraction(self) -> float:
        """The share of the estimated work that is done, from 0 to 1."""
        total = sum(self._seconds.values())
        done = sum(self._seconds[stage] * share for stage, share in self._done.items())
        return done / total if total else 0.0

    def at(self, stage: str, share: float) -> None:
        """Note that this share, from 0 to 1, of a stage is done; stages before it are done."""
        if stage not in self._seconds:
            return
        names = list(self._seconds)
        self._done |= dict.fromkeys(names[: names.index(stage)], 1.0)
        self._done[stage] = max(self._done.get(stage, 0.0), min(1.0, share))
        if self._bar is not None:
            self._bar.set_description_str(f"run: {stage}", refresh=False)
            self._bar.n = min(self._bar.total, self.fraction * self._bar.total)
            self._bar.refresh()

    def steps_of(self, stage: str) -> Callable[[int, int], None]:
        """Return a callback (steps done, steps in all) of a stage."""
        return lambda done, total: self.at(stage, done / max(1, total))

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
