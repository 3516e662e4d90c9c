"""Tiny runs whose artifacts and scores are frozen in scores.json, one block per platform.

  .venv/bin/python tests/golden/make.py    compute all again on this machine: about six minutes on one core
  .venv/bin/python tests/golden/make.py 'digits dct dm' …    compute these cases only

Equal configurations give equal numbers to the bit on one platform, so any difference there is a change of behaviour.
Compute them again only if that change is intended, and say so in the commit. Delete the blocks of other platforms
that the change makes wrong; they can only be computed there.
"""

import hashlib
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
FILE = HERE / "scores.json"
PLAIN = {"device": "cpu", "amp": "off", "compile": "off", "threads": 1}
RUN_UNDER = "demo.v1"

ALGOS = {
    "random": {"name": "random"},
    "dm": {"name": "dm", "preset": "quick", "iterations": 5, "batch_real": 16, "lr": 0.2},
    "dc": {"name": "dc", "preset": "quick", "iterations": 3, "outer_loops": 2, "batch_real": 16, "lr": 0.2},
    "mtt": {
        "name": "mtt",
        "preset": "quick",
        "iterations": 4,
        "experts": 1,
        "expert_epochs": 1,
        "max_start_epoch": 2,
        "syn_steps": 2,
        "batch_expert": 16,
        "lr": 0.2,
        "lr_lr": 0.01,
    },
}
DIGITS = {"name": "digits", "classes": ("3", "5", "8"), "per_class": 20}
GREY = {"dataset": DIGITS, "lpc": 2, "evaluators": ("convnet_d1",)}
COLOURED = {"dataset": "shapes", "lpc": 2, "evaluators": ("test_efficientnet",)}

CASES = {
    **{
        f"digits {codec} {algo}": {**GREY, "codec": codec, "algo": ALGOS[algo]}
        for codec in ("identity", "dct")
        for algo in ALGOS
    },
    **{f"shapes tiny-vae {algo}": {**COLOURED, "codec": "tiny-vae", "algo": ALGOS[algo]} for algo in ALGOS},
    "shapes identity dm": {**COLOURED, "codec": "identity", "algo": ALGOS["dm"]},
    "shapes dct dc": {**COLOURED, "codec": {"name": "dct", "colour": "split"}, "algo": ALGOS["dc"]},
    "shapes tiny-vae dm pixel": {**COLOURED, "codec": "tiny-vae", "algo": ALGOS["dm"], "match": "pixel"},
    "digits dct dm int8": {
        **GREY,
        "codec": "dct",
        "algo": ALGOS["dm"],
        "lpc": None,
        "ipc": 1,
        "match": "pixel",
        "precision": "int8",
    },
    "digits pca mtt soft": {**GREY, "codec": {"name": "pca", "dim": 8}, "algo": {**ALGOS["mtt"], "labels": "soft"}},
}

OTHERS = ("quick.v1", "fast.v1", "dc-bench.v1")
PAIRS = {f"{data} {algo}" for data in ("digits identity", "digits dct", "shapes tiny-vae") for algo in ALGOS}
LONG = {f"shapes tiny-vae {algo}" for algo in ("random", "dm", "dc")}  # a minute and more under the long protocols
JUDGED = [  # (case, protocol) beside the run's own
    (name, protocol)
    for name in CASES
    for protocol in OTHERS
    if name in PAIRS and (protocol == "quick.v1" or name not in LONG)
]


def platform_key() -> str:
    """Return everything that the last bit of a number depends on: processor and numerical libraries."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "timm", "diffusers"))
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {_processor()}"
    return f"{machine}, torch {torch.__version__}, {packages}"


def _processor() -> str:
    """The processor's vendor, family and model: what the libraries choose their code by."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in lines.items()}
    return " ".join(found.get(key, "") for key in ("vendor_id", "cpu family", "model")).strip()


def distil(name: str, folder: Path, coloured: str) -> dict:
    """Run a case into `folder / name`.

    Args:
        name: of the case.
        folder: where runs lie.
        coloured: the folder of coloured pictures, as `shapes.folder` writes it.

    Returns:
        sha256 of the artifact's file, and of its codes and labels alone; the scores under the run's own protocol.
    """
    from latentdd_plugin import RunConfig, load_artifact, run

    case = CASES[name]
    dataset = {"name": coloured} if case["dataset"] == "shapes" else case["dataset"]
    config = RunConfig(**{**case, "dataset": dataset, "protocol": RUN_UNDER, "controls": False, **PLAIN})
    record = run(config, out=folder / name, command="tests/golden/make.py")
    file = record.folder / "distilled.safetensors"
    stored = load_artifact(file)
    numbers = b"".join(np.ascontiguousarray(part).tobytes() for part in (stored.codes, stored.labels))
    return {
        "artifact": hashlib.sha256(file.read_bytes()).hexdigest(),
        "numbers": hashlib.sha256(numbers).hexdigest(),
        RUN_UNDER: scores(record),
    }


def judge(name: str, folder: Path, coloured: str, protocol: str) -> dict:
    """The scores under a protocol of the artifact that `distil` left."""
    from latentdd_plugin import EvaluationConfig, evaluate

    case = CASES[name]
    dataset = {"name": coloured} if case["dataset"] == "shapes" else {}  # a folder is the caller's to name
    config = EvaluationConfig(dataset=dataset, protocol=protocol, evaluators=case["evaluators"], **PLAIN)
    return scores(evaluate(folder / name, config, command="tests/golden/make.py"))


def scores(record) -> dict:
    """Accuracies by evaluator and seed, and the networks' parameters."""
    assert not record.to_json()["skipped"], record.to_json()["skipped"]
    found: dict = {}
    for row in record.to_json()["scores"]:
        one = found.setdefault(row["evaluator"], {"params": row["params"], "accuracy": {}})
        one["accuracy"][str(row["seed"])] = row["accuracy"]
    return found


def main(names: list[str]) -> None:
    """Write these cases, or all, into this platform's block of scores.json."""
    sys.path.insert(0, str(HERE.parent))
    import shapes

    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["DD_BENCH_CACHE"] = str(folder / "cache")
        coloured = shapes.folder(folder / "shapes", 16)
        for name in names or CASES:
            found[name] = distil(name, folder, coloured)
            found[name] |= {each: judge(name, folder, coloured, each) for case, each in JUDGED if case == name}
            print(name, flush=True)
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    whole = {**known.get(platform_key(), {}), **found}
    ordered = {name: whole[name] for name in CASES if name in whole}
    FILE.write_text(json.dumps({**known, platform_key(): ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
