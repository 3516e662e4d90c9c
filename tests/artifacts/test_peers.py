"""Files made by the original projects' own saving statements, out of a checkout of each.

DD_PEER_DC=…/DatasetCondensation DD_PEER_MTT=…/mtt-distillation pytest -m slow tests/bridges/test_peers.py
"""

import ast
import copy
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from latentdd_plugin.artifacts.exchange import import_set
from latentdd_plugin.artifacts.formats.base import ImportOptions

pytestmark = pytest.mark.slow
IPC = 2


def checkout(variable, file):
    """A file of the checkout that an environment variable names."""
    folder = os.environ.get(variable)
    if not folder or not (Path(folder) / file).exists():
        pytest.skip(f"no checkout with {file} at ${variable}")
    return ast.parse((Path(folder) / file).read_text())


def statements(tree, *calls):
    """The statements of these calls, as the source has them, in its order."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in calls
    ]
    assert found, calls
    return sorted(found, key=lambda node: node.lineno)


def executed(nodes, names):
    module = ast.fix_missing_locations(ast.Module(body=list(nodes), type_ignores=[]))
    exec(compile(module, "checkout", "exec"), names)  # the originals' own lines, in a namespace of ours


def synthetic():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat_interleave(IPC)
    return torch.randn(10 * IPC, 3, 32, 32, generator=g, requires_grad=True), labels


@pytest.mark.parametrize("file", ["main.py", "main_DM.py"])
def test_dataset_condensation(tmp_path, file):
    image_syn, label_syn = synthetic()
    names = {
        "torch": torch,
        "os": os,
        "copy": copy,
        "data_save": [],
        "accs_all_exps": {"ConvNet": [np.float64(0.26), np.mean([0.1, 0.2])]},
        "image_syn": image_syn,
        "label_syn": label_syn,
        "args": SimpleNamespace(save_path=str(tmp_path), method="DM", dataset="CIFAR10", model="ConvNet", ipc=IPC),
    }
    executed(statements(checkout("DD_PEER_DC", file), "data_save.append", "torch.save"), names)
    assert [path.name for path in tmp_path.iterdir()] == [f"res_DM_CIFAR10_ConvNet_{IPC}ipc.pt"]
    made = import_set("dc", tmp_path, tmp_path / "out", ImportOptions(values="dc-cifar10"))
    assert torch.equal(made.codes, image_syn.detach())
    assert torch.equal(made.labels, label_syn)


def test_mtt(tmp_path):
    image_syn, label_syn = synthetic()
    names = {
        "torch": torch,
        "os": os,
        "image_save": image_syn.detach(),
        "label_syn": label_syn,
        "save_dir": str(tmp_path),
        "it": 5000,
    }
    executed(statements(checkout("DD_PEER_MTT", "distill.py"), "torch.save"), names)
    there = {path.name for path in tmp_path.iterdir()}
    assert {"images_best.pt", "labels_best.pt", "images_5000.pt", "images_zca_5000.pt"} <= there
    made = import_set("mtt", tmp_path, tmp_path / "out", ImportOptions(values="mtt-cifar10", ipc=IPC))
    assert torch.equal(made.codes, image_syn.detach())
    assert torch.equal(made.labels, label_syn)
    undone = import_set("mtt", tmp_path / "images_zca_5000.pt", tmp_path / "undone")
    assert torch.equal(undone.decode(), image_syn.detach())


@pytest.mark.parametrize(
    ("variable", "file", "names"),
    [
        ("DD_PEER_DC", "utils.py", {"MNIST": "dc-mnist", "FashionMNIST": "dc-fashionmnist", "SVHN": "dc-svhn",
                                    "CIFAR10": "dc-cifar10", "CIFAR100": "dc-cifar100",
                                    "TinyImageNet": "dc-tinyimagenet"}),
        ("DD_PEER_MTT", "utils.py", {"CIFAR10": "mtt-cifar10", "Tiny": "mtt-tiny", "ImageNet": "mtt-imagenet",
                                     "CIFAR100": "mtt-cifar100"}),
    ],
)  # fmt: skip
def test_the_constants_are_the_sources(variable, file, names):
    from latentdd_plugin.artifacts.formats.values import NORMALISED

    tree = checkout(variable, file)
    (function,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "get_dataset"]
    found = {}
    for branch in [n for n in ast.walk(function) if isinstance(n, ast.If)]:
        named = [n.value for n in ast.walk(branch.test) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        values = {
            node.targets[0].id: tuple(ast.literal_eval(node.value))
            for node in branch.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in ("mean", "std")
        }
        if named and values:
            found[named[0]] = (values["mean"], values["std"])
    assert {name: found[name] for name in names} == {name: NORMALISED[ours] for name, ours in names.items()}
