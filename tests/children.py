"""Real child processes, forked from one that has imported everything: a kill is a kill, and takes a second.

What runs in a child stands here, because the child imports it by name.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from latentdd_plugin.codecs.base import Codec
from latentdd_plugin.core.processes import ALONE, Group
from latentdd_plugin.latent.space import statistics

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "timm", "datasets", "sklearn.datasets", "latentdd_plugin.cli.run"])


def start(function, *args):
    """A child process that runs the function."""
    process = CONTEXT.Process(target=_run, args=(function, *args), daemon=True)
    process.start()
    return process


def ended(process, seconds=120):
    """The child's exit code: negative if a signal ended it."""
    process.join(seconds)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    assert code is not None, f"still running after {seconds} s"
    return code


def _run(function, *args):
    torch.set_num_threads(1)
    code = function(*args)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


class Noting(Codec):
    """Halves an image. Each batch leaves a mark in the file `$ENCODED`; `$KILLED_AT` marks it kills its process."""

    spatial = True
    costly = True

    def encode(self, images):
        if len(images) == batch_size() and (log := os.environ.get("ENCODED")):
            with Path(log).open("a") as file:
                file.write("x")
            time.sleep(0.01)
            if Path(log).stat().st_size >= int(os.environ.get("KILLED_AT", "1000000")):
                os.kill(os.getpid(), signal.SIGKILL)
        return F.avg_pool2d(images, 2)

    def decode(self, codes):
        return F.interpolate(codes, scale_factor=2)


def batch_size():
    from latentdd_plugin.latent.encode import ENCODE_BATCH

    return ENCODE_BATCH


PART = 256  # images per file of the cache, in these tests


def encode(cache, log, out, killed_at=None):
    """Encode the digits with `Noting`, into a cache; leave the codes' hash in `out`."""
    import tiny

    from latentdd_plugin.latent import encode as encoding
    from latentdd_plugin.latent.sized_codec import SizedCodec

    os.environ.update(DD_BENCH_CACHE=str(cache), ENCODED=str(log))
    if killed_at is not None:
        os.environ["KILLED_AT"] = str(killed_at)
    encoding.PART = PART
    codec = SizedCodec(Noting(), tiny.digits().image_shape)
    _, real = encoding.code_set(tiny.digits(), codec, tiny.plain())
    Path(out).write_text(hashlib.sha256(real.store.numpy().tobytes()).hexdigest())


def command(words, folder, sabotage=None):
    """`dd-bench` in `folder`, with the recipe `tiny.test`, its output in the files `out` and `err`; the exit code."""
    import tiny

    from latentdd_plugin.cli.main import main
    from latentdd_plugin.evaluators import protocols

    os.chdir(folder)
    os.environ["DD_BENCH_CACHE"] = str(Path(folder) / "cache")
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    protocols.PROTOCOLS[tiny.PROTOCOL.name] = tiny.PROTOCOL
    if sabotage is not None:
        sabotage()
    return main(words.split())


def dd_bench_at(words, folder, place, killed_after=None):
    """`dd-bench` with its cache and its results below `place`; the output goes to `folder`. Killed after so long."""
    import tiny

    from latentdd_plugin.evaluators import protocols
    from latentdd_plugin.experiments import run_folder

    run_folder.SAVE_EVERY_S = -1.0
    os.chdir(folder)
    os.environ["DD_BENCH_CACHE"] = str(Path(place) / "cache")
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    protocols.PROTOCOLS[tiny.PROTOCOL.name] = tiny.PROTOCOL
    from latentdd_plugin.cli.main import main

    begun = time.monotonic()
    if killed_after is not None:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, killed_after)
    code = main(words.split())
    Path("seconds").write_text(str(time.monotonic() - begun))
    return code


def _after(owner, name, calls, sent, before=False):
    """Send this process a signal after so many calls of a method; `before` leaves out what the last one does."""
    original, seen = getattr(owner, name), []

    def call(*args, **options):
        seen.append(1)
        if before and len(seen) == calls:
            os.kill(os.getpid(), sent)
        result = original(*args, **options)
        if not before and len(seen) == calls:
            os.kill(os.getpid(), sent)
        return result

    setattr(owner, name, call)


def _saving_every_step():
    from latentdd_plugin.experiments import run_folder as folder

    folder.SAVE_EVERY_S = -1.0
    return folder


def killed_in_distillation():
    """After the checkpoint of the fifth step."""
    _after(_saving_every_step().DiskCheckpoint, "due", 6, signal.SIGKILL)


def killed_while_saving():
    """The third checkpoint lies beside its place, but is not there yet."""
    folder = _saving_every_step()
    save = folder.DiskCheckpoint.save

    def armed(self, payload):
        if payload["step"] == 3:
            _after(Path, "replace", 1, signal.SIGKILL, before=True)
        save(self, payload)

    folder.DiskCheckpoint.save = armed


def killed_in_evaluation():
    """One network of two is trained and tested."""
    from latentdd_plugin.evaluators.scoring import ScoreFile

    _after(ScoreFile, "write", 1, signal.SIGKILL)


def killed_at_the_end():
    """Everything but the record is there."""
    from latentdd_plugin.results.record import Record

    _after(Record, "save", 1, signal.SIGKILL, before=True)


def interrupted_in_distillation():
    """Ctrl-C within the fifth step; nothing was saved before, because that is twenty seconds away."""

    from latentdd_plugin.experiments.run_folder import DiskCheckpoint

    _after(DiskCheckpoint, "due", 5, signal.SIGINT)


def interrupted_in_the_last_step():
    """Ctrl-C within the eighth step of eight."""

    from latentdd_plugin.experiments.run_folder import DiskCheckpoint

    _after(DiskCheckpoint, "due", 8, signal.SIGINT)


def interrupted_in_evaluation():
    """Ctrl-C after the first of two networks."""
    from latentdd_plugin.evaluators.scoring import ScoreFile

    _after(ScoreFile, "write", 1, signal.SIGINT)


class Grey:
    """A store that makes its samples when they are read."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, count):
        self.shape = (count, 3, 32, 32)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return torch.full((len(range(*rows.indices(len(self)))), *self.shape[1:]), 0.5)

    def split(self, size):
        return (self[start : start + size] for start in range(0, len(self), size))


def anonymous_mb():
    """Memory of this process that belongs to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def statistics_of_a_large_set():
    """Take the statistics of 490 MB of samples as one process of one, and of two; neither may keep them."""
    for ours in (ALONE, Halved()):
        statistics(Grey(6_000), common=False, ours=ours)  # the memory of a few chunks
        before = anonymous_mb()
        mean, std = statistics(Grey(40_000), common=False, ours=ours)
        grown = anonymous_mb() - before
        assert grown < 250, grown
        assert float(mean[0]) == 0.5
        assert float(std[0]) < 1e-5


class Halved(Group):
    """One of two processes, whose values the other has too."""

    def __init__(self):
        super().__init__(0, 2)

    def gather(self, value):
        return [value, value]


def heap_between_stages():
    """Exits with 1 if the memory that a stage has freed is not given back at its end."""
    from latentdd_plugin.core.heap import keep_freed_memory
    from latentdd_plugin.core.monitor import Clock, resident_bytes

    keep_freed_memory()
    clock, before = Clock(), resident_bytes()
    large = [torch.ones(1 << 20) for _ in range(64)]  # 256 MiB
    kept = torch.ones(1000)  # above them in the heap
    del large
    during = resident_bytes() - before
    clock.lap("encode_s")
    after = resident_bytes() - before
    print(f"{during >> 20} MiB kept during the stage, {after >> 20} MiB after it", flush=True)
    return 0 if during > 200 << 20 and after < 30 << 20 and len(kept) else 1
