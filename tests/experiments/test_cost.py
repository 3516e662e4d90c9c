"""The cost model: amounts of work as they are computed, what is said of them, and that a run does not notice."""

import logging
import random
from dataclasses import dataclass

import numpy as np
import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from latentdd_plugin import load_artifact, run
from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.progress import RunProgress
from latentdd_plugin.distillers.dm import DM
from latentdd_plugin.distillers.scored_selection import Scored
from latentdd_plugin.distillers.work import TaskSize
from latentdd_plugin.evaluators.base import Evaluator
from latentdd_plugin.experiments import run as runs
from latentdd_plugin.experiments.build import build_distiller, resolve_run
from latentdd_plugin.experiments.cost import speed
from latentdd_plugin.experiments.cost.estimate import Estimate, Stage
from latentdd_plugin.experiments.cost.model import DataSize, Model, stated_work
from latentdd_plugin.experiments.cost.speed import Speed, census
from latentdd_plugin.experiments.run import complete
from latentdd_plugin.experiments.run_folder import RunFolder
from latentdd_plugin.experiments.stage_records import Job
from latentdd_plugin.experiments.stages import encode, load
from latentdd_plugin.latent.sized_codec import build_codec

CIFAR = DataSize(50_000, 10_000, 10, (3, 32, 32), "memory")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DD_BENCH_CACHE", str(tmp_path / "cache"))


class Operations(TorchDispatchMode):
    """Counts operations by torch's own formulas, without the hooks on modules that `autograd.grad` refuses."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


def estimated(size=CIFAR, rate=None, **options):
    """The estimate of a run on a dataset that is only described."""
    config, parts = resolve_run(RunConfig("described", **{"compute": None, **tiny.PLAIN, **options}))
    codec = build_codec(config.codec, size.shape)
    return Model(config, parts, size, codec, tiny.plain(), Speed("cpu", rate)).estimate()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dm", {"iterations": 2, "batch_real": 16}),
        ("dc", {"iterations": 1, "batch_real": 16, "outer_loops": 2, "inner_loops": 1}),
        ("mtt", {"iterations": 2, "syn_steps": 2, "experts": 1, "batch_syn": 20}),
        ("el2n", {"networks": 1, "epochs": 2}),
    ],
)
def test_a_method_states_the_operations_that_it_computes(name, options):
    task, method = tiny.task(), build_distiller({"name": name, "preset": "quick", **options})
    size = TaskSize(10, task.codes_per_class, len(task.real.labels) // 10, int(np.prod(task.match_shape)))
    work = method.work(size)
    one = census(task.networks.network, None, task.match_shape).flops
    counter = Operations()
    with counter:
        method.distill(task)
    found = counter.total / one
    assert found == pytest.approx(work.passes + work.expert_passes, rel=0.2)


@pytest.mark.parametrize(
    ("name", "options"), [("rded", {"candidates": 20, "crops": 2}), ("sre2l", {"iterations": 2, "batch": 5})]
)
def test_a_method_states_what_it_asks_of_its_teacher(name, options):
    task, method = tiny.task("identity"), build_distiller({"name": name, "preset": "quick", **options})
    size = TaskSize(10, task.codes_per_class, len(task.real.labels) // 10, int(np.prod(task.match_shape)))
    one = census(task.teacher.logits, None, task.space.codec.image_shape).flops
    counter = Operations()
    with counter:
        method.distill(task)
    assert counter.total / one == pytest.approx(method.work(size).teacher_passes, rel=0.2)


@pytest.mark.parametrize("algo", ["rded", "sre2l"])
def test_a_teachers_work_is_part_of_the_estimate(algo):
    codec, teacher = "tiny-vae", {"name": "convnet_bn"}
    found = {one.name: one for one in estimated(algo=algo, codec=codec, teacher=teacher, rate=1e12).stages}
    more = estimated(algo=algo, codec=codec, teacher={**teacher, "networks": 3}, rate=1e12)
    assert found["distil"].basis == "assumed"
    assert next(one for one in more.stages if one.name == "distil").seconds > 1.2 * found["distil"].seconds


def test_a_teacher_that_is_asked_at_every_step_is_part_of_the_estimate():
    untested = DataSize(50_000, 0, 10, (3, 32, 32), "memory")
    more = {"codec": "dct", "algo": "random", "teacher": {"path": None, "name": "convnet"}, "precision": "int8"}
    more |= {"evaluators": ("convnet",), "controls": False, "rate": 1e12}

    def evaluation(regime):
        found = estimated(untested, labels=regime, **more).stages
        return next(one for one in found if one.name == "evaluate").seconds

    assert evaluation("soft") == pytest.approx(evaluation("hard"))
    # A step is one pass forward and two backward in the network, and one forward in a teacher like it.
    assert evaluation("teacher") / evaluation("hard") == pytest.approx(4 / 3, rel=0.02)


def test_work_that_was_stated_for_another_way_to_distil_is_not_read():
    @dataclass
    class Twice(DM):
        def iteration(self, task, variables, step):
            yield from super().iteration(task, variables, step)

    size = TaskSize(10, 1, 100, 192)
    assert stated_work(DM(), size).passes > 0
    assert stated_work(Twice(), size) is None


@pytest.mark.usefixtures("tiny_protocol")
def test_an_estimate_changes_neither_artifact_nor_score(tmp_path, monkeypatch, caplog):
    config = tiny.config()
    resolved, parts = resolve_run(config)
    job = Job(resolved, parts, folder=RunFolder(tmp_path / "without"))
    without, _ = complete(job, encode(job, load(job)))
    job.home.close()
    monkeypatch.setattr(speed, "SMALL_S", 0.0)  # measure, small as it is
    with caplog.at_level(logging.INFO):
        seen = run(config, out=tmp_path / "with")
    assert "estimated time" in caplog.text
    assert [s.accuracy for s in seen.scores] == [s.accuracy for s in without.scores]
    both = (
        load_artifact(tmp_path / name / "distilled.safetensors").header.content_sha256 for name in ("with", "without")
    )
    assert len(set(both)) == 1


@pytest.mark.usefixtures("tiny_protocol")
def test_an_estimate_that_fails_does_not_stop_the_run(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise UsageError("a budget too small for this baseline")

    monkeypatch.setattr(runs, "estimate_loaded", refuse)
    caplog.set_level(logging.INFO)
    assert run(tiny.config(), out=tmp_path / "run").scores
    assert "estimated time: not known (a budget too small for this baseline)" in caplog.text


def test_an_estimate_draws_from_no_global_generator(monkeypatch):
    monkeypatch.setattr(speed, "SMALL_S", 0.0)
    size = DataSize(100, 20, 10, (1, 8, 8), "memory")
    estimated(size)  # imports, some of which draw
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    estimated(size)
    assert (states[0], states[1]) == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(states[2], torch.get_rng_state())


def test_measured_and_small_work_are_told_apart(monkeypatch):
    assert all(stage.basis == "counted" for stage in estimated(DataSize(100, 20, 10, (1, 8, 8), "memory")).stages[:2])
    monkeypatch.setattr(speed, "SMALL_S", 0.0)
    found = {stage.name: stage for stage in estimated(DataSize(100, 20, 10, (1, 8, 8), "memory")).stages}
    assert found["distil"].basis == "measured"
    assert found["evaluate"].seconds > 0


def test_an_evaluator_of_another_package_is_named_as_not_known():
    class Theirs(Evaluator):
        def evaluate(self, trial, seed):
            raise NotImplementedError

    config, parts = resolve_run(RunConfig("described", **tiny.PLAIN, controls=False))
    parts.evaluators["theirs"] = Theirs()
    codec = build_codec(config.codec, CIFAR.shape)
    found = Model(config, parts, CIFAR, codec, tiny.plain(), Speed("cpu", 1e12)).estimate()
    assert "theirs" in next(stage.note for stage in found.stages if stage.name == "evaluate")


def test_a_method_without_stated_work_makes_the_total_a_lower_bound(monkeypatch):
    monkeypatch.delattr(Scored, "work")
    found = estimated(algo="el2n", rate=1e9)
    assert "at least" in found.line()
    assert "distil: not known" in found.line()


def test_twice_the_images_or_codes_cost_about_twice_as_much():
    once = {stage.name: stage.seconds for stage in estimated(rate=1e12, algo={"name": "dm", "batch_real": 8}).stages}
    twice = {
        stage.name: stage.seconds
        for stage in estimated(rate=1e12, algo={"name": "dm", "batch_real": 16, "iterations": 200}).stages
    }
    assert twice["distil"] > once["distil"]
    large = estimated(DataSize(100_000, 10_000, 10, (3, 32, 32), "memory"), rate=1e12)
    assert large.memory["codes"] == 2 * estimated(rate=1e12).memory["codes"]


def test_processes_share_pieces_and_not_more():
    found = Estimate((Stage("encode", 60.0, "counted", 3), Stage("distil", 10.0, "counted")), {}, {}, {})
    assert [found.seconds(n) for n in (1, 2, 3, 8)] == [70.0, 50.0, 30.0, 30.0]


def test_bytes_are_those_of_arrays_and_files():
    found = estimated(codec="tiny-vae", rate=1e12, ipc=10)
    assert found.disk["decoded images"] == 60_000 * 3 * 32 * 32
    assert found.disk["codes"] == 50_000 * 4 * int(np.prod([int(n) for n in found.sizes["code"].split("x")]))
    assert found.disk["artifact"] == 10 * 10 * 4 * 3 * 32 * 32


def test_the_progress_of_a_run_weighs_stages_by_their_seconds():
    whole = RunProgress()
    whole.plan({"encode": 10.0, "distil": 30.0, "evaluate": 60.0})
    whole.at("distil", 0.5)
    assert whole.fraction == pytest.approx(0.25)
    whole.at("distil", 0.1)  # a later stage of another precision begins anew: the whole does not go back
    assert whole.fraction == pytest.approx(0.25)
    whole.at("evaluate", 1.0)
    whole.at("unknown", 1.0)
    assert whole.fraction == pytest.approx(1.0)
