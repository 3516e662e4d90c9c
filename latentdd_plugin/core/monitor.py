"""Timing, memory and progress of a run. Nothing here changes a result; a run that would take too long is stopped."""

from __future__ import annotations

import copy
import itertools
import math
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from latentdd_plugin.core.errors import TooLong
from latentdd_plugin.core.heap import give_back_freed_memory

MEASURED = 5  # steps behind an estimate, after one warm-up step
PATIENCE = 0.05  # fraction of the limit after which two steps are enough for an estimate


class Clock:
    """Wall-clock seconds and peak memory per stage, and the times of distillation steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, tuple[float, float | None]] = {}  # per stage, up to its end: process, device
        self.steps: list[float] = []
        self._earlier_step_ms: float | None = None
        self._tick = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to this stage, and give back the memory that the stage no longer needs."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._tick
        self.peaks[stage] = _higher(peak_mb(), self.peaks.get(stage))
        give_back_freed_memory()
        self._tick = now

    def so_far(self, stage: str) -> dict[str, float | None]:
        """Return what a stage that is under way has cost, for a later process that goes on with it."""
        seconds = self.seconds.get(stage, 0.0) + time.perf_counter() - self._tick
        rss, device = _higher(peak_mb(), self.peaks.get(stage))
        return {"seconds": seconds, "peak_rss_mb": rss, "peak_device_mb": device, "step_ms": self.step_ms()}

    def resume(self, stage: str, spent: Mapping[str, float | None]) -> None:
        """Add to a stage what earlier processes spent on it, as `so_far` returned it."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + (spent["seconds"] or 0.0)
        self.peaks[stage] = spent["peak_rss_mb"] or 0.0, spent["peak_device_mb"]
        self._earlier_step_ms = spent["step_ms"]

    def without(self, *stages: str) -> Clock:
        """Return a clock that starts now and has spent the same on every other stage."""
        other = copy.deepcopy(self)
        for stage in stages:
            other.seconds.pop(stage, None)
            other.peaks.pop(stage, None)
        other._tick = time.perf_counter()
        return other

    def step_ms(self) -> float | None:
        """Return the median milliseconds between the ends of steps; None for fewer than two steps."""
        gaps = _gaps(self.steps)
        return round(1000 * median(gaps), 3) if gaps else self._earlier_step_ms

    @contextmanager
    def watch_steps(
        self, show: bool, limit_s: float | None = None, also: Callable[[int, int], None] | None = None
    ) -> Iterator[Callable[[int, int, float], None]]:
        """Give a callback (steps done, total steps, loss) that records times and, with `show`, draws a progress bar.

        With a limit in seconds, the callback raises TooLong after the first few steps if the distillation is estimated
        to take longer: the time so far, plus the median step time for each remaining step. `also` is told the steps
        done, and those in all.
        """
        bar: tqdm[None] = tqdm(unit="step", desc="distil", disable=not show, leave=False)
        begun, first, decided = time.perf_counter(), len(self.steps), limit_s is None

        def step(done: int, total: int, loss: float) -> None:
            nonlocal decided
            self.steps.append(time.perf_counter())
            bar.total = total
            if not math.isnan(loss):
                bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            bar.update(done - bar.n)
            if also is not None:
                also(done, total)
            if limit_s is not None and not decided:
                gaps = _gaps(self.steps[first : first + MEASURED + 2])[1:]
                decided = _decided(gaps, self.steps[-1] - begun, done, total, limit_s)

        with bar:
            yield step


def _decided(gaps: Sequence[float], spent: float, done: int, total: int, limit_s: float) -> bool:
    """Return whether enough steps were measured; raise TooLong if the estimate exceeds the limit."""
    if len(gaps) < MEASURED and not (gaps and spent > PATIENCE * limit_s):
        return False
    estimate = spent + median(gaps) * (total - done)
    if estimate > limit_s:
        steps = f"{total:,} steps of {duration(median(gaps))}"
        raise TooLong(
            f"the distillation is estimated to take {duration(estimate)} ({steps}), the limit is {duration(limit_s)}; "
            "allow more with --limit-hours, or choose fewer steps",
            estimate,
        )
    return True


def _higher(now: tuple[float, float | None], before: tuple[float, float | None] | None) -> tuple[float, float | None]:
    """Return the higher of two peaks, of the process and of the device."""
    if before is None:
        return now
    devices = [peak for peak in (now[1], before[1]) if peak is not None]
    return max(now[0], before[0]), max(devices, default=None)


def _gaps(times: Sequence[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(times)]


def duration(seconds: float) -> str:
    """Format a time: `80 ms`, `12.0 s`, `5.2 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def peak_mb() -> tuple[float, float | None]:
    """Return the peak memory so far in MiB: resident in this process, and allocated on the GPU (None without one)."""
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return round(_peak_rss() / 2**20, 1), device


def resident_bytes() -> int:
    """Return the bytes of memory that this process takes now; its peak where the system does not say."""
    return _sizes(Path("/proc/self/status")).get("VmRSS", 0) or _peak_rss()


def available_memory() -> int:
    """Return the bytes that this process may still take: free memory, less by limits of the process and its cgroups."""
    free = [_sizes(Path("/proc/meminfo")).get("MemAvailable", 2**63)]
    status = _sizes(Path("/proc/self/status"))
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        if (most := resource.getrlimit(limit)[0]) != resource.RLIM_INFINITY:
            free.append(most - status.get(used, 0))
    return max(0, min([*free, *_cgroup_free()]))


def _sizes(path: Path) -> dict[str, int]:
    """Return the sizes in bytes that a file of /proc gives in kB; nothing if it is missing."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3 and words[2] == "kB"}


CGROUPS = Path("/sys/fs/cgroup")
CGROUP_FILES = {  # controller -> limit, use, and the part of the use that the kernel gives back
    "": ("memory.max", "memory.current", "inactive_file"),  # version 2
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _cgroup_free() -> Iterator[int]:
    """Yield the bytes left in each memory cgroup of this process, and those around it."""
    for _, controller, place in (line.split(":", 2) for line in _cgroup_lines()):
        if controller not in CGROUP_FILES:
            continue
        base = CGROUPS / controller
        inside = base / place.strip("/")
        for folder in (inside, *(up for up in inside.parents if up.is_relative_to(base))):
            try:
                limit, used = ((folder / name).read_text().strip() for name in CGROUP_FILES[controller][:2])
                counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield int(limit) - int(used) + int(counts.get(CGROUP_FILES[controller][2], 0))
            except (OSError, ValueError):  # the root lacks such a file, and "max" means unlimited
                continue


def _cgroup_lines() -> list[str]:
    try:
        return Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []


def _peak_rss() -> int:
    """Return the peak resident bytes, on Linux from /proc: `getrusage` includes the peak of the parent process."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def held_interrupt() -> Iterator[Callable[[], bool]]:
    """Delay Ctrl-C to the end of an iteration, so that saved files are complete; a second Ctrl-C acts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []

    def note(signum: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signum)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGINT, before)
