"""One run on several processes: `torchrun --nproc-per-node N -m latentdd_plugin run …`, or `srun` under Slurm.

Every process runs the same program and takes its share of the work. Process 0 writes the run's folder. Without a
launcher there is one process, and everything here does nothing.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from latentdd_plugin.core.errors import RunFailed

log = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE = timedelta(hours=24)  # between two meetings of the processes; one that dies is noticed at once


@dataclass(frozen=True)
class Group:
    """The processes of a run: which of them this is, and how they exchange values."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Return whether this process writes the run's files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every `size`-th item, beginning with the `rank`-th."""
        return items[self.rank :: self.size]

    def block(self, count: int) -> range:
        """Return this process's part of 0 … count-1, in one piece."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def gather(self, value: T) -> list[T]:
        """Return every process's value, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(found, value)
        return found

    def from_first(self, value: T) -> T:
        """Return process 0's value."""
        if self.size == 1:
            return value
        held = [value]
        with _peers():
            dist.broadcast_object_list(held)
        return held[0]

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over the processes, in place, and return it."""
        if self.size > 1:
            with _peers():
                dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process."""
        if self.size == 1:
            return flags
        return tuple(bool(count) for count in self.sum_(torch.tensor(flags, dtype=torch.int32, device=_place())))


ALONE = Group()


class PeerLost(RunFailed):
    """Another process of the run ended before its time."""


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(
            "another process of this run ended; what was finished is kept. Run the same command again, with the same "
            "or another number of processes"
        ) from error


def _place() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


@functools.cache
def group() -> Group:
    """Return the processes that a launcher started this one with; joins them at the first call."""
    _read_slurm()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    rank = int(os.environ["RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with _peers():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)
    if rank:
        logging.getLogger("latentdd_plugin").setLevel(logging.WARNING)
    log.info("%d processes share this run", size)
    return Group(rank, size)


def _read_slurm() -> None:
    """Take rank and size from Slurm, if `srun` started several tasks and no other launcher did."""
    if "WORLD_SIZE" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) == 1:
        return
    os.environ.setdefault("MASTER_ADDR", os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"))
    os.environ.setdefault("MASTER_PORT", str(20_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 40_000))
    names = {"WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID"}
    os.environ.update({name: os.environ[slurm] for name, slurm in names.items()})


def complaint(error: Exception) -> str:
    """Return the message of a failure; "" if another process of the run has said already why it ends."""
    if not dist.is_initialized():
        return str(error) if int(os.environ.get("RANK", "0")) == 0 else ""
    try:
        told = dist.distributed_c10d._get_default_store().add("dd-bench/failed", 1) > 1
    except RuntimeError:
        told = not isinstance(error, PeerLost) or group().rank > 0
    return "" if told else str(error)
