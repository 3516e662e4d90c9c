"""Rates of encoding, speed-up by a second process, start-up and the cost for small data: on a machine that does nothing else.

    python benchmarks/scale/measure.py --set SET --small SET20 --tiny SET4 --taesd FOLDER --cifar FOLDER \
        --before CHECKOUT --cache CACHE --out figures.jsonl
    python benchmarks/scale/measure.py --out figures.jsonl --summary

SET, SET20 and SET4 are folders of `make_set.py`, the smaller ones about a tenth and a fiftieth of it. CHECKOUT holds the
package at the commit to compare with. CACHE is kept between starts. Every case adds a line to OUT; a case that is there already is not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE, REPEATS, FILE = Path(__file__).parent, 3, "distilled.safetensors"
ONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PLAIN = ["--controls", "none", "--device", "cpu", "--quiet", "threads=1", "amp=off", "compile=off"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def called(words: Sequence[str], env: dict[str, str], core: int | None = None) -> subprocess.Popen[str]:
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    return subprocess.Popen(
        [*pinned, sys.executable, *words], env={**os.environ, **ONE, **env}, text=True, stdout=subprocess.PIPE
    )


def encoding(args: argparse.Namespace, codec: str, store: str) -> dict[str, Any]:
    """Rate from files to codes."""
    images, path = (args.small, []) if codec == "dct" else (args.tiny, ["--path", args.taesd])
    words = [str(HERE / "encode.py"), images, "--codec", codec, "--store", store, *path]
    out, _ = called(words, {}).communicate()
    return json.loads(out.splitlines()[-1])


def shared(args: argparse.Namespace, processes: int) -> dict[str, Any]:
    """Seconds of encoding, of a step and of four networks, in one run of one or two processes."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["latentdd_plugin", "run", "--dataset", args.cifar, "--codec", "tiny-vae", "--algo", "dm", *PLAIN]
        words += ["--evaluator", "convnet,convnet_d2", "--protocol", "demo.v1", "algo.iterations=50"]
        words += ["--out", f"{folder}/run"]
        launcher = [*TORCHRUN, "-m"] if processes == 2 else ["-m"]
        process = called([*launcher, *words], {"DD_BENCH_CACHE": f"{folder}/cache"})
        process.communicate()
        (Path(folder) / "run" / FILE).rename(args.out.with_name(f"{args.out.stem}-{processes}.safetensors"))
        return costs(Path(folder) / "run")


def streamed(args: argparse.Namespace, processes: int, codec: str) -> dict[str, Any]:
    """Seconds of encoding images that are streamed, by one or two processes."""
    images, path = (args.small, []) if codec == "dct" else (args.tiny, [f"codec.path={args.taesd}"])
    with tempfile.TemporaryDirectory(dir=Path(images).parent) as folder:
        words = ["latentdd_plugin", "run", "--dataset", images, "--codec", codec, "--algo", "random", *PLAIN, *path]
        words += [
            "--evaluator",
            "convnet_d1",
            "--protocol",
            "demo.v1",
            "dataset.store=stream",
            "--out",
            f"{folder}/run",
        ]
        launcher = [*TORCHRUN, "-m"] if processes == 2 else ["-m"]
        called([*launcher, *words], {"DD_BENCH_CACHE": f"{folder}/cache"}).communicate()
        return costs(Path(folder) / "run")


def costs(folder: Path) -> dict[str, Any]:
    """Seconds of a run's stages, its accuracies, and the hash of its artifact."""
    record = json.loads((folder / "result.json").read_text())
    kept = ("load_s", "encode_s", "distill_s", "evaluate_s", "step_ms_median", "peak_rss_mb")
    found = {name: record["cost"][name] for name in kept}
    return {
        **found,
        "accuracies": [score["accuracy"] for score in record["scores"]],
        "file": record["artifact"]["sha256"],
    }


def apart(args: argparse.Namespace) -> float:
    """Return the largest difference between the codes of one process and of two."""
    from safetensors.torch import load_file

    one, two = (load_file(args.out.with_name(f"{args.out.stem}-{n}.safetensors")) for n in (1, 2))
    return max(float((one[name] - two[name]).abs().max()) for name in one if one[name].is_floating_point())


def starts(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to the first training step on the whole set: five starts, the first of which may fill the cache."""
    out, _ = called([str(HERE / "startup.py"), args.set, "--starts", "5", "--cache", args.cache], {}).communicate()
    return {"starts": [json.loads(line) for line in out.splitlines() if line.startswith("{")]}


def before_and_after(args: argparse.Namespace, data: str) -> dict[str, Any]:
    """Seconds of one small run at both commits, side by side on a core each; the cores change places at each repeat."""
    found: dict[str, list[float]] = {"before": [], "after": []}
    packages = {"before": args.before, "after": str(HERE.parents[1])}
    for repeat in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            running = {}
            for number, (name, package) in enumerate(packages.items()):
                words = [
                    "-m",
                    "latentdd_plugin",
                    "run",
                    "--codec",
                    "dct",
                    "--algo",
                    "dm",
                    *PLAIN,
                    "--protocol",
                    "demo.v1",
                ]
                words += ["--dataset", data, "--out", f"{folder}/{name}", "algo.iterations=100"]
                words += ["--evaluator", "convnet,convnext_atto" if data == "digits" else "convnet_d1"]
                env = {"DD_BENCH_CACHE": f"{folder}/cache-{name}", "PYTHONPATH": package}
                running[name] = called(words, env, (number + repeat) % 2), time.perf_counter()
            waiting = dict(running)
            while waiting:
                for name, (process, begun) in list(waiting.items()):
                    if process.poll() is not None:
                        found[name].append(round(time.perf_counter() - begun, 2))
                        del waiting[name]
                time.sleep(0.02)
    ratios = [after / before for before, after in zip(found["before"], found["after"], strict=True)]
    return {**found, "ratio": round(statistics.median(ratios), 4)}


def cases(args: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for repeat in range(REPEATS):
        for store in ("stream", "memory"):
            found[f"rate dct {store} {repeat}"] = lambda store=store: encoding(args, "dct", store)
    for data in ("digits", args.cifar):
        found[f"small {Path(data).name}"] = lambda data=data: before_and_after(args, data)
    for repeat in range(2):
        for processes in (1, 2):
            found[f"processes {processes} {repeat}"] = lambda n=processes: shared(args, n)
    for codec in ("taesd", "dct"):
        for processes in (1, 2):
            found[f"streamed {codec} {processes}"] = lambda n=processes, codec=codec: streamed(args, n, codec)
    for repeat in range(REPEATS):
        for store in ("stream", "memory"):
            found[f"rate taesd {store} {repeat}"] = lambda store=store: encoding(args, "taesd", store)
    return {"starts": lambda: starts(args), **found}


def done(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["case"]: row for row in map(json.loads, lines)}


def summary(found: dict[str, dict[str, Any]]) -> None:
    def median(prefix: str, key: str) -> float:
        values = [row[key] for case, row in found.items() if case.startswith(prefix) and row.get(key) is not None]
        return statistics.median(values) if values else float("nan")

    for row in found.get("starts", {}).get("starts", []):
        print("start", row)
    for codec in ("dct", "taesd"):
        stream, memory = (median(f"rate {codec} {store}", "rate") for store in ("stream", "memory"))
        print(f"{codec}: {stream:.0f} images/s streamed, {memory:.0f} in memory, {100 * (stream / memory - 1):+.1f}%")
        one, two = (median(f"streamed {codec} {n}", "encode_s") for n in (1, 2))
        print(f"{codec}, streamed by 1 and 2 processes: {one:.1f} s, {two:.1f} s, {one / two:.2f}x")
    for key in ("encode_s", "step_ms_median", "evaluate_s"):
        one, two = median("processes 1", key), median("processes 2", key)
        print(f"{key}: {one:.1f} by one process, {two:.1f} by two, {one / two:.2f}x")
    for case, row in found.items():
        if case.startswith("small "):
            print(f"{case}: {row['ratio']:.3f} times the seconds before ({row['before']}, {row['after']})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("set", "small", "tiny", "taesd", "cifar", "before", "cache"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit-minutes", type=float, default=20.0)
    parser.add_argument("--summary", action="store_true")
    args = parser.parse_args()
    begun = time.perf_counter()
    for name, case in ({} if args.summary else cases(args)).items():
        if name in done(args.out) or time.perf_counter() - begun > 60 * args.limit_minutes:
            continue
        start = time.perf_counter()
        try:
            row = {"case": name, **case(), "seconds": round(time.perf_counter() - start, 1)}
        except Exception as error:
            print(f"{name}: {error!r}", flush=True)
            continue
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    summary(done(args.out))
    with contextlib.suppress(FileNotFoundError):
        print(f"codes of one process and of two differ by at most {apart(args):.1e}")


if __name__ == "__main__":
    main()
