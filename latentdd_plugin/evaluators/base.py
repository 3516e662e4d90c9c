"""The evaluator contract: train on a distilled set, test on held-out images, return one raw score per seed.

A new evaluator is one class derived from `Evaluator`, named in the entry-point group `dd_bench.evaluators`. It reads a
`Trial`, the distilled set under its protocol.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from latentdd_plugin.core.errors import Unsuitable
from latentdd_plugin.core.plugins import config_of
from latentdd_plugin.core.types import Json, Score
from latentdd_plugin.evaluators.trial import Trial

__all__ = ["Evaluator", "Trial", "Unsuitable"]


class Evaluator(ABC):
    """A way to score a distilled set.

    An evaluator is plain configuration: the constructor's arguments, kept as attributes of the same names. It holds
    nothing of a trial; what the seeds of one trial share belongs in `session`.
    """

    contract: ClassVar[int] = 1

    @abstractmethod
    def evaluate(self, trial: Trial, seed: int) -> Score:
        """Train under this seed and test once.

        Raises:
            Unsuitable: the trial's images or labels cannot be used.
        """

    def session(self, trial: Trial) -> Callable[[int], Score]:
        """Return a function from seed to score on this trial; it is dropped after the last seed.

        Override it to share expensive preparation, such as compilation, between seeds. The scores must equal those of
        `evaluate`.

        Raises:
            Unsuitable: the trial's images or labels cannot be used.
        """
        return functools.partial(self.evaluate, trial)

    def config(self) -> dict[str, Json]:
        """Return the constructor's arguments as JSON; they make an equal evaluator."""
        return config_of(self)
