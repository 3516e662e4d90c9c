"""The package's own errors: what was given, what is allowed, what to do next."""

from __future__ import annotations

from collections.abc import Sequence


class DDBenchError(Exception):
    """Base of every error this package raises on purpose; the command line shows its text alone."""

    exit_code = 1


class UsageError(DDBenchError):
    """The request cannot be carried out as given (exit code 2). Carries every fault found, not only the first.

    Args:
        faults: one message per fault, or a single message.
    """

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class DataError(UsageError):
    """The dataset cannot be read as requested: a missing column, a corrupt image, an unknown class."""


class ArtifactError(UsageError):
    """An artifact or record is damaged or of another format than it claims."""


class PluginError(UsageError):
    """A plug-in cannot be found, imported or used."""


class Unsuitable(Exception):
    """An evaluator cannot score a trial, or a network cannot take images of this size; the message says why."""


class RunFailed(DDBenchError):
    """A run began and could not be finished (exit code 1): a full disk, a non-finite loss."""


class TooLong(RunFailed):
    """A distillation that was given a time limit and, by its first steps, would exceed it.

    Args:
        message: the text for the user.
        estimate_s: seconds it would take in all.
    """

    def __init__(self, message: str, estimate_s: float) -> None:
        self.estimate_s = estimate_s
        super().__init__(message)
