"""`dd-bench evaluate` from the command line."""

import pytest
import tiny

from latentdd_plugin.cli import main
from latentdd_plugin.experiments.run import run

pytestmark = pytest.mark.usefixtures("tiny_protocol")
PLAIN = "--protocol tiny.test --evaluator convnet_d1 --quiet device=cpu amp=off compile=off threads=1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from latentdd_plugin.evaluators import protocols

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(protocols.PROTOCOLS, tiny.PROTOCOL.name, tiny.PROTOCOL)
        return run(tiny.config(codec="pca"), out=tmp_path_factory.mktemp("evaluate") / "run").folder


def called(words):
    return main.main(words.split())


def test_it_prints_the_table_and_the_path(folder, tmp_path, capsys):
    assert called(f"evaluate {folder} {PLAIN} --reference full --out {tmp_path}/out seed=2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["convnet_d1", "trained", "on"]
    assert [line.split("  ")[0] for line in lines[2:5]] == ["the artifact", "whole set", "recovery"]
    assert lines[5] == "digits, tiny.test, accuracy on test (mean ± std over seeds)"
    assert lines[6] == f"{tmp_path}/out/evaluation.json"
    assert called(f"evaluate {folder} {PLAIN} --reference full --out {tmp_path}/out --seed 2") == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_only_what_was_said_overrides_the_run(folder, capsys):
    assert called(f"evaluate {folder} {PLAIN} dataset.per_class=30") == 2
    assert "is not what the artifact was made from" in capsys.readouterr().err
    assert called(f"evaluate {folder} {PLAIN} dataset.per_class=30 --allow-other-data") == 0
    assert "other data than it was made from" in capsys.readouterr().out
    assert called(f"evaluate {folder} {PLAIN} dataset.validation=0.1 --allow-other-data") == 0
    assert "accuracy on validation" in capsys.readouterr().out


def test_faults_of_the_command_line(folder, capsys):
    assert called(f"evaluate {folder} ipc=3 algo.lr=1 seed=x codec={{name:dct}} dataset.nothing=1") == 2
    told = capsys.readouterr().err
    for fault in (
        "ipc: is not used for an artifact; the keys are: evaluator, protocol, split, seed",
        "algo.lr: is not used for an artifact",
        "codec: set its options one by one, codec.name=…",
        "seed='x': must be a whole number",
        "unknown key 'dataset.nothing'",
    ):
        assert fault in told
    assert called(f"evaluate {folder} {PLAIN} codec.n_components=5 --reference none") == 2
    assert "PCA has no option 'n_components'" in capsys.readouterr().err


def test_an_interruption_says_what_is_kept(folder, monkeypatch, capsys):
    from latentdd_plugin.evaluators.train_scratch import TrainingSession

    def interrupted(_self, _seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingSession, "score", interrupted)
    assert called(f"evaluate {folder} {PLAIN} seed=9") == 130
    assert capsys.readouterr().err == ("dd-bench: interrupted; finished scores are kept, the same command continues\n")
