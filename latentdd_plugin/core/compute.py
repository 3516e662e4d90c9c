"""Device, threads, mixed precision and compilation; decided by the amount of work, never by a clock."""

from __future__ import annotations

import contextlib
import functools
import logging
import platform
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from latentdd_plugin.core.config import ComputeConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.heap import keep_freed_memory
from latentdd_plugin.core.types import Json

log = logging.getLogger(__name__)

# Work below this many floating-point operations (about half a minute of two cores) runs plain: eager float32.
PLAIN_BELOW = 3e12
VARIANTS = 256  # of one function, for different networks and shapes, that a process may compile


@dataclass(frozen=True)
class Mode:
    """The arithmetic of one stage."""

    amp: bool  # autocast to bfloat16
    compile: bool  # torch.compile
    device: str

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which matrix products run in bfloat16, if this mode says so."""
        if not self.amp:
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, compiled if this mode says so."""
        if not self.compile:
            return function
        _allow_variants()
        return torch.compile(function, dynamic=False)


@functools.cache
def _allow_variants() -> None:
    """Let torch compile a function for many networks and shapes.

    By default it compiles eight variants and silently runs the ninth as plain Python: the last networks of a run would
    then be trained more slowly, and to other bits, than in a process of their own.
    """
    import torch._dynamo

    torch._dynamo.config.cache_size_limit = VARIANTS


@dataclass(frozen=True)
class Numerics:
    """Resolved arithmetic of a run. Two runs with equal fields and equal configuration agree to the bit on a CPU."""

    device: str
    threads: int
    amp: str  # auto | bf16 | off
    compile: str  # auto | on | off
    bf16: bool  # the device multiplies bfloat16 natively
    compiler: bool  # torch.compile has what it needs
    torch: str
    capability: str

    def mode(self, flops: float) -> Mode:
        """Return the arithmetic for a stage that takes so many floating-point operations."""
        large = flops >= PLAIN_BELOW
        amp = self.amp == "bf16" or (self.amp == "auto" and large and self.bf16)
        compiled = self.compile == "on" or (self.compile == "auto" and large and self.compiler)
        return Mode(amp, compiled, self.device)

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON, for checkpoints and records."""
        return asdict(self)


def resolve_device(name: str) -> str:
    """Return the device that a name means: `auto` is `cuda` if there is one, else `cpu`.

    Raises:
        UsageError: the named device is absent.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={name}: not usable here ({str(error).splitlines()[0]}); try device=cpu") from None
    return name


def resolve_numerics(config: ComputeConfig) -> Numerics:
    """Return the numerics on this machine. Sets torch's thread count and how the C library keeps memory."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    on_cpu = device == "cpu"
    if on_cpu:
        keep_freed_memory()
        bf16 = any(
            getattr(torch.cpu, probe, bool)() for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
        capability = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    else:
        bf16 = torch.cuda.is_bf16_supported()
        capability = torch.cuda.get_device_name(device)
    compiler = not on_cpu or any(shutil.which(c) for c in ("g++", "clang++", "c++"))
    return Numerics(
        device, torch.get_num_threads(), config.amp, config.compile, bf16, compiler, str(torch.__version__), capability
    )


def try_compiled(mode: Mode, function: Callable[..., Any], *example: Any) -> tuple[Callable[..., Any], Mode]:
    """Compile and call once on an example; if compilation fails, log it and return the plain function."""
    if not mode.compile:
        return function, mode
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of toolchains that are not used
    compiled = mode.compiled(function)
    try:
        compiled(*example)
    except Exception as error:
        log.warning("torch.compile failed (%s); going on without it", str(error).splitlines()[0])
        return function, Mode(mode.amp, False, mode.device)
    return compiled, mode


def forward_flops(module: Callable[[torch.Tensor], Any], shape: tuple[int, ...], device: str = "cpu") -> float:
    """Return the floating-point operations of one forward pass on one input of this shape."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(torch.zeros((2, *shape), device=device))
    return counter.get_total_flops() / 2
