"""Run a command in a memory cgroup of its own and print its peaks as JSON.

    python benchmarks/scale/limited.py --gib 2 -- dd-bench run --dataset SET dataset.store=stream

The group (version 1 or 2) lies inside the caller's; needs the right to make it. All processes of the command and the
page cache that they fill count. What the kernel can give back, it takes back before it ends a process, so the group's
own peak may equal the limit; `anonymous` is the peak of what it cannot take back, looked at every tenth of a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def group(limit: int) -> Iterator[Path]:
    """Yield the folder of a new group."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    first = next((path for _, names, path in lines if "memory" in names.split(",")), None)
    place = ROOT / "memory" / first.lstrip("/") if first else ROOT / lines[-1][2].lstrip("/")
    made = place / f"dd-bench-{os.getpid()}"
    made.mkdir()
    try:
        (made / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
        yield made
    finally:
        for _ in range(50):  # until the last process has left
            try:
                made.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def anonymous(place: Path) -> int:
    """Return bytes of a group that belong to no file."""
    stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
    return int(stat.get("total_rss", stat.get("anon", 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    with group(int(args.gib * 2**30)) as place:
        begun, peak = time.perf_counter(), 0
        enter = 'echo $$ > "$0/cgroup.procs"; exec "$@"'
        process = subprocess.Popen(["sh", "-c", enter, str(place), *words])
        while process.poll() is None:
            peak = max(peak, anonymous(place))
            time.sleep(0.1)
        files = ("memory.max_usage_in_bytes", "memory.peak")
        most = next((int((place / name).read_text()) for name in files if (place / name).exists()), 0)
        print(json.dumps({
            "limit_mib": round(args.gib * 1024), "peak_mib": most >> 20, "anonymous_mib": peak >> 20,
            "seconds": round(time.perf_counter() - begun, 1), "exit": process.returncode,
        }), flush=True)  # fmt: skip
    raise SystemExit(process.returncode)


if __name__ == "__main__":
    main()
