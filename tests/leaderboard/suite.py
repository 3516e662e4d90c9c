"""A suite of seconds, in a folder of its own."""

import yaml

TREE = {
    "schema": "dd-bench/suite.v1",
    "name": "tiny.v1",
    "title": "Digits in seconds",
    "description": "Two networks, three steps each.",
    "protocol": "tiny.test",
    "evaluators": ["convnet_d1"],
    "datasets": [{"name": "digits", "train_size": 1438, "test_size": 359}],
    "codecs": ["identity", "dct", "pca"],
    "algos": ["random", {"name": "dm", "preset": "quick", "iterations": 2, "batch_real": 8}],
    "precisions": ["fp32", "int8"],
}
RUN = (
    "run --codec dct --algo dm algo.iterations=2 algo.batch_real=8 --precision int8 --protocol tiny.test "
    "--evaluator convnet_d1 --quiet device=cpu amp=off compile=off threads=1"
)


def written(folder, **more):
    """The suite's file, with some keys changed; None takes one out."""
    tree = {key: value for key, value in {**TREE, **more}.items() if value is not None}
    path = folder / f"{tree.get('name', 'tiny.v1')}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path
