"""The work of a distillation, as a method states it before it begins, for estimates of time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskSize:
    """The numbers of a task that decide how much a method computes."""

    classes: int
    codes_per_class: int
    class_size: int  # training images per class, on average
    values: int  # of one sample in the match space

    @property
    def codes(self) -> int:
        """Codes of the whole set."""
        return self.classes * self.codes_per_class

    @property
    def samples(self) -> int:
        """Training images of all classes."""
        return self.classes * self.class_size


@dataclass(frozen=True)
class Work:
    """Everything that a method computes, in units that a machine's speed turns into seconds."""

    steps: int = 1  # iterations, each with some work that does not depend on the samples
    passes: float = 0.0  # samples passed forward through the matching network; a backward pass counts as two
    viewed: float = 0.0  # codes shown in the match space with gradients, decoded if that is pixels
    decoded: float = 0.0  # codes decoded to images with gradients, whatever the match space
    teacher_passes: float = 0.0  # images passed forward through the teacher; a backward pass to its inputs counts one
    operations: float = 0.0  # floating-point operations outside of networks
    expert_passes: float = 0.0  # `passes` of networks trained before, which the processes of a run share
    snapshots: int = 0  # states of a network kept on disk
