"""Flags and key=value words to overrides; whatever a text holds survives Hydra."""

import argparse
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentdd_plugin.cli import overrides, run


def words(*typed, sweep=False):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    run.add_arguments(parser)
    return overrides.from_flags(parser.parse_intermixed_args(list(typed)), sweep=sweep)


def tree(*typed):
    kept, faults = overrides.checked(words(*typed), sweep=False)
    assert faults == []
    return overrides.composed(kept)


@pytest.mark.parametrize(
    "name",
    [
        "./my_codec.py:MyCodec",
        "/a folder/with = signs, and commas/my.py:C",
        "it's.py:C",
        'say "x".py:C',
        "C:\\codecs\\mine.py:C\\",
        "${oc.env:HOME}/x.py:C",
        "\\'${x}",
        "[1,2]",
        "{a:b}",
        "null",
        "True",
        "sd-vae",
        "a,b",
        "",
        " x ",
    ],
)
def test_a_name_survives(name):
    assert tree("--codec", name)["codec"] == {"name": name}
    assert tree("--dataset", name)["dataset"]["name"] == name


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12))
def test_any_text_survives(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert overrides.composed([f"++codec.name={overrides.quoted(text)}"])["codec"]["name"] == text


@settings(max_examples=40, deadline=None)
@given(st.text("a'\\${}[],= :\"", max_size=8))
def test_any_mix_of_special_characters_survives(text):
    assert overrides.composed([f"++codec.name={overrides.quoted(text)}"])["codec"]["name"] == text


def test_words_stand_before_and_after_flags():
    found = tree("seed=3", "--codec", "pca", "ipc=2", "--device", "cpu", "algo.iterations=10")
    assert (found["seed"], found["ipc"], found["device"]) == (3, 2, "cpu")
    assert found["codec"]["name"] == "pca"
    assert found["algo"] == {"name": "dm", "preset": "quick", "iterations": 10}


def test_open_nodes_take_new_keys_and_short_names():
    found = tree("codec.upsample=2", "codec.nested.deep=1", "algo=random", "dataset=digits", "codec={name:pca,size:4}")
    assert found["codec"] == {"name": "pca", "upsample": 2, "nested": {"deep": 1}, "size": 4}
    assert found["algo"]["name"] == "random"


def test_a_typed_word_wins_over_a_flag():
    assert tree("--seed", "1", "seed=2")["seed"] == 2


def test_lists():
    assert tree("--evaluator", "convnet, resnet18")["evaluator"] == ["convnet", "resnet18"]
    assert tree("--evaluator", "train-scratch(arch=a,b=2),c")["evaluator"] == ["train-scratch(arch=a,b=2)", "c"]
    assert tree("--lpc", "4", "--precision", "fp32,int8")["precision"] == ["fp32", "int8"]


def test_all_bad_words_are_reported_together():
    given_words = words("sead=1", "dataset.imagesize=3", "seed=0,1", "nonsense", "~seed", "+foo=1")
    kept, faults = overrides.checked(given_words, sweep=False)
    assert kept == []
    text = "\n".join(faults)
    assert "unknown key 'sead' (did you mean seed" in text
    assert "'dataset.imagesize' (did you mean dataset.image_size" in text
    assert "seed=0,1: several values; add -m" in text
    assert "'nonsense' is not of the form key=value" in text
    assert "~seed: a key cannot be removed" in text
    assert "unknown key 'foo'" in text
    assert len(faults) == 6


def test_a_sweep_multiplies_flags_and_words():
    typed = words("--algo", "dm,random", "--evaluator", "convnet,vgg11", "seed=0,1", "-m", sweep=True)
    kept, faults = overrides.checked(typed, sweep=True)
    assert faults == []
    jobs = [overrides.composed(job) for job in overrides.expanded(kept)]
    assert [(j["algo"]["name"], j["seed"]) for j in jobs] == [("dm", 0), ("dm", 1), ("random", 0), ("random", 1)]
    assert all(j["evaluator"] == ["convnet", "vgg11"] for j in jobs)


def test_precisions_of_a_sweep_are_jobs_at_a_byte_budget_and_a_list_at_fixed_lpc():
    assert "precision=fp32,int8" in words("--precision", "fp32,int8", "-m", sweep=True)
    assert "precision=['fp32','int8']" in words("--precision", "fp32,int8", "lpc=3", "-m", sweep=True)


def test_composing_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree("seed=1")
    assert list(tmp_path.iterdir()) == []
