"""Seconds from the start of a process to its first training step, on a folder of images: first and later starts.

    python benchmarks/scale/startup.py SET --codec dct --starts 3 [--profile]

Each start is a process of its own with a common cache, which is empty at first. Wall-clock time and the process's own
time are printed; imports are part of both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def start(args: argparse.Namespace) -> None:
    import logging

    from latentdd_plugin.core.config import DatasetConfig, RunConfig
    from latentdd_plugin.distillers.dm import DM
    from latentdd_plugin.experiments.run import run

    def first_step(self: DM, task: object, variables: object, step: int) -> None:
        used = time.process_time()
        found = {"wall_s": round(time.time() - float(os.environ["STARTED"]), 2), "cpu_s": round(used, 2)}
        print(json.dumps(found), flush=True)
        raise KeyboardInterrupt

    DM.iteration = first_step
    logging.basicConfig(level=logging.WARNING)
    codec = {"name": args.codec, **({"path": args.path} if args.path else {})}
    dataset = DatasetConfig(args.set, store=args.store, image_size=args.side, per_class=args.per_class)
    algo = {"name": "dm", "preset": "quick"}
    plain = {"device": "cpu", "amp": "off", "compile": "off", "threads": 1}
    config = RunConfig(dataset, codec=codec, algo=algo, evaluators=("convnet",), protocol="fast.v1", **plain)
    with tempfile.TemporaryDirectory() as out:
        try:
            run(config, out=out)
        except KeyboardInterrupt:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("--codec", default="dct")
    parser.add_argument("--path", help="folder of the codec's weights")
    parser.add_argument("--store", default="stream")
    parser.add_argument("--side", type=int)
    parser.add_argument("--per-class", type=int)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--cache", help="a cache that exists already; without it an empty one")
    parser.add_argument("--profile", action="store_true", help="print the most costly functions of each start")
    parser.add_argument("--case", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        start(args)
        return
    with tempfile.TemporaryDirectory(dir=Path(args.set).parent) as empty:
        for _ in range(args.starts):
            env = {**os.environ, "DD_BENCH_CACHE": args.cache or empty, "STARTED": str(time.time())}
            profiler = ["-m", "cProfile", "-s", "cumulative"] if args.profile else []
            subprocess.run([sys.executable, *profiler, __file__, *sys.argv[1:], "--case"], check=True, env=env)


if __name__ == "__main__":
    main()
