"""Rate and peak memory of encoding an image folder, each case in a process of its own.

    python benchmarks/scale/encode.py SET --codec dct --per-class 5000,10000,20000 --store stream,memory [--limit-gb 2]

`--limit-gb` sets RLIMIT_DATA (`ulimit -d`: heap, stacks and private mappings) in each process once its libraries are
loaded, such that resident memory cannot grow beyond this size; what libraries map and never touch does not count.
Every case begins with an empty cache.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def size_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def case(args: argparse.Namespace) -> dict[str, object]:
    from latentdd_plugin.core import checkpoint
    from latentdd_plugin.core.config import RunConfig
    from latentdd_plugin.core.parts import DatasetConfig
    from latentdd_plugin.core.types import hash_json
    from latentdd_plugin.experiments.build import resolve_run
    from latentdd_plugin.experiments.stage_records import Job
    from latentdd_plugin.experiments.stages import encode, load

    if args.limit_gb:
        most = int(args.limit_gb * 2**30 + (size_mb("VmData") - size_mb("VmRSS")) * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    codec = {"name": args.codec, **({"path": args.path} if args.path else {})}
    dataset = DatasetConfig(args.set, store=args.store, per_class=int(args.per_class))
    config = RunConfig(dataset, codec=codec, device="cpu", amp="off", compile="off", threads=args.threads)
    job = Job(*resolve_run(config))
    before, start = size_mb("VmRSS"), time.perf_counter()
    loaded = load(job)
    middle = time.perf_counter()
    encoded = encode(job, loaded)
    end, count, peak = time.perf_counter(), len(encoded.codes.labels), size_mb("VmHWM")
    codes = hash_json([checkpoint.sha256_of(part) for part in encoded.codes.store.split(4096)])
    return {
        "images": count, "store": args.store, "codec": args.codec, "load_s": round(middle - start, 1),
        "encode_s": round(end - middle, 1), "rate": round(count / (end - start)), "rss_before_mb": round(before),
        "peak_rss_mb": round(peak), "data_mb": round(size_mb("VmData")),
        "codes": codes[:12],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("--codec", default="dct")
    parser.add_argument("--path", help="folder of the codec's weights")
    parser.add_argument("--per-class", default="20000")
    parser.add_argument("--store", default="stream,memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit-gb", type=float)
    parser.add_argument("--case", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(case(args)))
        return
    for per_class in args.per_class.split(","):
        for store in args.store.split(","):
            words = [sys.executable, __file__, *sys.argv[1:], "--per-class", per_class, "--store", store, "--case"]
            with tempfile.TemporaryDirectory(dir=Path(args.set).parent) as cache:
                env = {**os.environ, "DD_BENCH_CACHE": cache}
                subprocess.run(words, check=False, env=env)


if __name__ == "__main__":
    main()
