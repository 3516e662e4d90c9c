"""Selection methods against slow references written from the papers' formulas."""

import pytest
import tiny
import torch

from latentdd_plugin.cli.main import main
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.random import seeded
from latentdd_plugin.distillers.herding import Herding
from latentdd_plugin.distillers.kcenter import KCenter
from latentdd_plugin.distillers.kmeans import KMeans
from latentdd_plugin.distillers.work import TaskSize
from latentdd_plugin.experiments.build import build_distiller
from latentdd_plugin.nn.architectures import build, features_of
from latentdd_plugin.nn.teacher import Teacher
from latentdd_plugin.testing.samples import teacher

METHODS = ("herding", "kmeans", "k-center")


def rows(n, d=6, seed=0):
    found = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return found - found.mean(0)


def slow_herding(x, n):
    """argmin over x of || mu - (x + sum of the chosen) / k ||, from the definition."""
    x, chosen = x.double(), []
    mu = x.mean(0)
    for k in range(1, n + 1):
        gaps = [float((mu - (x[i] + x[chosen].sum(0)) / k).norm()) for i in range(len(x))]
        chosen.append(min((i for i in range(len(x)) if i not in chosen), key=gaps.__getitem__))
    return chosen


def slow_k_center(x, n):
    x = x.double()
    chosen = [int((x - x.mean(0)).norm(dim=1).argmin())]
    while len(chosen) < n:
        far = [min(float((x[i] - x[j]).norm()) for j in chosen) for i in range(len(x))]
        chosen.append(max((i for i in range(len(x)) if i not in chosen), key=far.__getitem__))
    return chosen


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 7, 29])
def test_herding_is_the_greedy_mean(n, seed):
    x = rows(30, seed=seed)
    assert Herding().choose(x.clone(), n, torch.Generator()).tolist() == slow_herding(x, n)


def test_herding_comes_closer_to_the_mean_than_chance():
    x = rows(500, 20)
    g = torch.Generator().manual_seed(1)
    chance = min(float(x[torch.randperm(500, generator=g)[:20]].mean(0).norm()) for _ in range(200))
    assert float(x[Herding().choose(x.clone(), 20, g)].mean(0).norm()) < chance / 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 7, 29])
def test_k_center_is_farthest_first(n, seed):
    x = rows(30, seed=seed)
    assert KCenter().choose(x.clone(), n, torch.Generator()).tolist() == slow_k_center(x, n)


def test_k_center_covers_within_twice_the_best_radius():
    corners = torch.tensor([[sx * 10.0, sy * 10.0] for sx in (-1, 1) for sy in (-1, 1)])
    x = (corners[:, None] + 0.1 * rows(20, 2)).flatten(0, 1)
    chosen = x[KCenter().choose(x.clone(), 4, torch.Generator())]
    assert float(torch.cdist(x, chosen).amin(1).max()) < 1.0


def test_k_means_keeps_the_sample_nearest_to_each_centre():
    corners = torch.tensor([[sx * 10.0, sy * 10.0] for sx in (-1, 1) for sy in (-1, 1)])
    x = (corners[:, None] + rows(20, 2, seed=3)).flatten(0, 1)
    x -= x.mean(0)
    groups = x.view(4, 20, 2)
    nearest = (groups - groups.mean(1, keepdim=True)).norm(dim=2).argmin(1) + 20 * torch.arange(4)
    chosen = KMeans().choose(x.clone(), 4, torch.Generator().manual_seed(0))
    assert sorted(chosen.tolist()) == nearest.tolist()


def test_k_means_puts_larger_clusters_first():
    x = torch.cat([rows(5, 2) + 20, rows(30, 2, seed=1) - 20, rows(12, 2, seed=2)])
    chosen = KMeans().choose((x - x.mean(0)).clone(), 3, torch.Generator().manual_seed(0)).tolist()
    assert [0 if i < 5 else 1 if i < 35 else 2 for i in chosen] == [1, 2, 0]


def test_equal_samples_are_still_chosen_once_each():
    x = torch.zeros(12, 3)
    x[:2] += torch.tensor([[3.0, 0, 0], [0, -3.0, 0]])
    for method in (Herding(), KMeans(), KCenter()):
        chosen = method.choose((x - x.mean(0)).clone(), 9, torch.Generator().manual_seed(0))
        assert len(set(chosen.tolist())) == 9


@pytest.mark.parametrize("match", ["code", "pixel"])
@pytest.mark.parametrize("name", METHODS)
def test_real_codes_of_each_class_measured_where_it_matches(name, match):
    given = tiny.task("dct", match, codes_per_class=5)
    found = build_distiller({"name": name}, match, "dct").distill(given)
    assert found.labels.tolist() == [label for label in range(10) for _ in range(5)]
    everything, labels = given.codes.all()
    for label in range(10):
        real = {tuple(code) for code in everything[labels == label].flatten(1).tolist()}
        ours = [tuple(code) for code in found.codes[found.labels == label].flatten(1).tolist()]
        assert set(ours) <= real
        assert len(set(ours)) == 5
    if name == "herding":
        x = given.real.take(given.real.by_class[3]).flatten(1)
        expected = given.codes.take(given.codes.by_class[3][slow_herding(x, 5)])
        assert torch.equal(found.codes[15:20], expected)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_choice(name):
    method = build_distiller({"name": name})
    first, again, other = (method.distill(tiny.task("dct", codes_per_class=5, seed=s)).codes for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name != "kmeans")


@pytest.mark.parametrize("name", METHODS)
def test_a_class_smaller_than_the_budget_gives_all_it_has(name):
    given = tiny.task("dct", codes_per_class=145)  # the digits have 139 to 146 of each class
    found = build_distiller({"name": name}).distill(given)
    sizes = [len(members) for members in given.codes.by_class]
    assert max(sizes) > 145 > min(sizes)
    assert torch.bincount(found.labels).tolist() == [min(size, 145) for size in sizes]
    small = sizes.index(min(sizes))
    assert torch.equal(found.codes[found.labels == small], given.codes.take(given.codes.by_class[small]))


def test_k_means_leaves_the_threads_as_they_are():
    before = torch.get_num_threads()
    x = rows(400, 30)
    first, again = (KMeans().choose(x.clone(), 25, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.get_num_threads() == before


def test_progress_is_told_class_by_class():
    told = []
    Herding().distill(tiny.task("dct", progress=lambda done, total, loss: told.append((done, total, loss == loss))))
    assert told == [(n, 10, False) for n in range(1, 11)]


def test_options():
    assert build_distiller({"name": "kmeans", "iterations": 3}).config() == {"iterations": 3}
    assert build_distiller({"name": "herding"}).config() == {}


def two_networks():
    """A teacher of an ordinary timm network and of a ConvNet, as both kinds give features."""
    data, card = tiny.digits(), teacher().card
    with seeded(0, "tests/teacher"):
        found = tuple(build(name, data.image_shape, 10)[0] for name in ("resnet18", "convnet"))
    fields = {name: getattr(card, name) for name in ("arch", "kwargs", "classes", "input_shape", "mean", "std")}
    return Teacher.of(found, trained_on=(), **fields)


def test_features_are_what_the_last_layers_read():
    given, images = two_networks(), tiny.task("dct").images(torch.arange(70))
    read = []
    for network in given.networks:
        last = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
        last.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    given.classify(images)
    found = given.features(images)
    assert found.shape == (70, 512 + 128)
    assert torch.allclose(found, torch.cat(read[:2], 1), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_features_of_a_teacher_decide(name):
    given = tiny.task("dct", codes_per_class=4, teacher=two_networks())
    found = build_distiller({"name": name, "features": "teacher"}).distill(given)
    members = given.codes.by_class[3]
    x = given.teacher.features(given.images(members))
    if name != "kmeans":
        slow = {"herding": slow_herding, "k-center": slow_k_center}[name]
        assert torch.equal(found.codes[12:16], given.codes.take(members[slow(x, 4)]))
    assert not torch.equal(found.codes, build_distiller({"name": name}).distill(given).codes)


def test_features_are_an_option_that_old_runs_do_not_have():
    assert build_distiller({"name": "herding", "features": "match"}).config() == {}
    taught = build_distiller({"name": "herding", "features": "teacher"})
    assert taught.config() == {"features": "teacher"}
    assert taught.work(TaskSize(10, 2, 100, 64)).teacher_passes == 1000
    with pytest.raises(UsageError, match="features=code: choose one of match, teacher"):
        build_distiller({"name": "kmeans", "features": "code"})
    with pytest.raises(UsageError, match="teacher: Linear gives no features before its last layer"):
        features_of(torch.nn.Linear(2, 2), torch.zeros(1, 2))


def test_a_run_by_features_needs_a_teacher_and_is_recomputed_with_it(tmp_path, capsys):
    run = ["run", "--algo", "herding", "algo.features=teacher", "--protocol", "demo.v1", "--quiet"]
    run += ["--evaluator", "convnet_d1", "--out", str(tmp_path / "run")]
    assert main(run) == 2
    assert "algo=herding: it needs a teacher" in capsys.readouterr().err
    assert main([*run, "--teacher", "convnet_d1"]) == 0
    assert main(["verify", str(tmp_path / "run"), "--level", "repeat", "--quiet"]) == 0
