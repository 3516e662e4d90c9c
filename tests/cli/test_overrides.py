"""Flags and key=value words to overrides; whatever a text holds survives Hydra."""

import argparse
import warnings

import pytest
from hypothesis import example, given, settings
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


TEXT_KEYS = {
    "out": lambda found: found["out"],
    "dataset.name": lambda found: found["dataset"]["name"],
    "dataset.subset": lambda found: found["dataset"]["subset"],
    "dataset.revision": lambda found: found["dataset"]["revision"],
    "dataset.label_column": lambda found: found["dataset"]["label_column"],
    "codec.path": lambda found: found["codec"]["path"],
    "codec.revision": lambda found: found["codec"]["revision"],
    "protocol": lambda found: found["protocol"],
}
TEXTS = (
    "/data/a=b/c", "a,b", "/a/(1)/b", "(", "pictures #2", "a  b", " x ", "it's", 'say "x"', "Bücher/猫", "2024_11_26",
    "1e3", "007", "0123456", "0x1F", "1.0", "on", "yes", "true", "False", "nan", "inf", "~", "${x}", "${oc.env:HOME}",
    "C:\\data\\", "a@b", "100%", "a\tb", "[1]", "{a:b}", "{", "]", "a:b", "+1", "-1", "*", "?", "choice(a,b)", "!x",
    "|", "a;b", "&", "=", "==", "",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("key", TEXT_KEYS)
def test_a_text_after_its_key_arrives_as_it_was_typed(key, text):
    if (key, text) == ("protocol", "a,b"):
        pytest.skip("names of protocols hold no comma: several of them are a sweep")
    assert TEXT_KEYS[key](tree("--codec", "diffusers", f"{key}={text}")) == text


@settings(max_examples=150, deadline=None)
@example("codec.path", "İ")  # letters that A-Z matches if case is ignored
@example("codec.path", "ſ")
@example("codec.path", "\u212a")
@given(
    st.sampled_from(sorted(TEXT_KEYS)),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from("\t'\"\\=,()[]{}#${}~@%*"))
    .filter(lambda text: text != "null" and not (len(text) > 1 and text[0] in "'\"" and text[0] == text[-1]))
    .filter(lambda text: text.strip("\x85\u2028\u2029") == text),
)
def test_any_text_after_its_key_arrives(key, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept, faults = overrides.checked(["codec.name=diffusers", f"{key}={text}"], sweep=False)
        if faults:  # a list of plain names where one is taken
            assert "several values" in faults[0]
            assert "," in text
            return
        assert TEXT_KEYS[key](overrides.composed(kept)) == text


def test_null_and_quotes_keep_their_meaning():
    found = tree("dataset.subset=null", "dataset.revision='null'", 'dataset.label_column="a, b"', "out='x y'")
    assert found["dataset"]["subset"] is None
    assert found["dataset"]["revision"] == "null"
    assert (found["dataset"]["label_column"], found["out"]) == ("a, b", "x y")
    assert tree("dataset.name=null")["dataset"]["name"] == "null"


def test_lists_of_texts():
    found = tree("dataset.classes=[1e3,007,on,sea lion,it's,Käse,猫,'a, b',null,x=1,(a,b)]")
    assert found["dataset"]["classes"] == [
        "1e3", "007", "on", "sea lion", "it's", "Käse", "猫", "a, b", "null", "x=1", "(a,b)",
    ]  # fmt: skip
    assert tree("dataset.classes=null")["dataset"]["classes"] is None
    assert tree("dataset.classes=007")["dataset"]["classes"] == "007"
    assert tree("evaluator=[convnet,./my, file.py:C]")["evaluator"] == ["convnet", "./my", "file.py:C"]


def test_numbers_and_truth_values_stay_what_they_are():
    found = tree("seed=3", "dataset.image_size=32", "dataset.flip=false", "algo.lr=1e-2", "algo.iterations=1e3",
                 "codec.size=4", "codec.colour=rgb", "threads=null", "dataset.validation=0.1")  # fmt: skip
    assert (found["seed"], found["dataset"]["image_size"], found["dataset"]["flip"]) == (3, 32, False)
    assert (found["algo"]["lr"], found["algo"]["iterations"], found["codec"]) == (
        0.01, 1000.0, {"name": "dct", "size": 4, "colour": "rgb"},
    )  # fmt: skip
    assert (found["threads"], found["dataset"]["validation"]) == (None, 0.1)


def test_an_option_of_unknown_type_is_hydras_unless_that_would_change_a_text():
    found = tree("--codec", "no-such-codec", "codec.a=3", "codec.b=[1,2]", "codec.c=/x (1)/=,#", "codec.d=${x}")
    assert found["codec"] == {"name": "no-such-codec", "a": 3, "b": [1, 2], "c": "/x (1)/=,#", "d": "${x}"}


def test_texts_of_a_sweep_are_split_at_commas_outside_brackets_and_quotes():
    kept, faults = overrides.checked(
        ["codec=diffusers", "codec.path=/a=1/x,/b (1,2)/y,'c,d',007", "dataset.classes=[1e3,on],[2]"], sweep=True
    )
    assert faults == []
    jobs = [overrides.composed(job) for job in overrides.expanded(kept)]
    assert [job["codec"]["path"] for job in jobs[::2]] == ["/a=1/x", "/b (1,2)/y", "c,d", "007"]
    assert [job["dataset"]["classes"] for job in jobs[:2]] == [["1e3", "on"], ["2"]]
    kept, faults = overrides.checked(["algo=dm,random", "seed=range(0,2)"], sweep=True)
    assert faults == []
    assert any("range(0,2)" in word for word in kept)


@pytest.mark.parametrize("word", ["codec=dct,pca", "algo=dm,random", "dataset=digits,digits", "protocol=a.v1,b.v1",
                                  "dataset.classes=cat,dog", "seed=0,1"])  # fmt: skip
def test_several_values_without_m_are_a_fault(word):
    kept, (fault,) = overrides.checked([word], sweep=False)
    assert kept == []
    assert "several values; add -m" in fault


def test_synonyms_are_taken_on_the_command_line():
    found = tree("distiller=random", "distiller.lr=3", "baselines=none", "evaluators=[resnet18]")
    assert (found["algo"]["name"], found["algo"]["lr"], found["controls"]) == ("random", 3, "none")
    assert found["evaluator"] == ["resnet18"]
    assert tree("--distiller", "dc", "--baselines", "none")["algo"]["name"] == "dc"
