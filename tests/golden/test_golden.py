"""Tiny runs give the artifacts and scores, to the bit, that they gave when scores.json was made on this platform.

Every case is distilled once and judged under the run's own protocol; under the others, one case by default and the rest
among the slow tests. Only the public API is used, so that the package's insides may move.
"""

import json
import shutil

import pytest
import shapes
from golden import make

FROZEN = json.loads(make.FILE.read_text())
KEY = make.platform_key()
QUICK = "digits dct mtt"  # judged under other protocols without `-m slow` too
SHORT = [(QUICK, "quick.v1"), (QUICK, "dc-bench.v1")]

pytestmark = pytest.mark.skipif(
    KEY not in FROZEN,
    reason=f"no scores of this platform ({KEY}); .venv/bin/python tests/golden/make.py computes them",
)


@pytest.fixture(scope="module")
def frozen():
    return FROZEN[KEY]


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """(what a case gives, where it lies and the coloured pictures); each case is distilled once."""
    folder, done = tmp_path_factory.mktemp("golden"), {}
    coloured = shapes.folder(folder / "shapes", 16)

    def get(name):
        if name not in done:
            done[name] = make.distil(name, folder, coloured)
        return done[name], (folder, coloured)

    return get


def test_every_case_is_frozen(frozen):
    judged = [(name, key) for name, told in frozen.items() for key in told if key.endswith(".v1")]
    assert sorted(judged) == sorted([*make.JUDGED, *((name, make.RUN_UNDER) for name in make.CASES)])


@pytest.mark.parametrize("name", make.CASES)
def test_the_run_gives_the_same_artifact_and_scores(name, frozen, distilled):
    found, _ = distilled(name)
    told = frozen[name]
    assert found["numbers"] == told["numbers"], "other codes or labels: the distillation changed"
    assert found["artifact"] == told["artifact"], "the same codes and labels in another file: its header changed"
    assert found[make.RUN_UNDER] == told[make.RUN_UNDER]


@pytest.mark.parametrize(
    ("name", "protocol"),
    [pytest.param(*pair, marks=[] if pair in SHORT else pytest.mark.slow) for pair in make.JUDGED],
)
def test_the_artifact_scores_the_same_under_every_protocol(name, protocol, frozen, distilled):
    _, where = distilled(name)
    assert make.judge(name, *where, protocol) == frozen[name][protocol]


def test_judging_the_file_alone_gives_the_scores_of_the_run(frozen, distilled, tmp_path):
    _, (folder, coloured) = distilled(QUICK)
    shutil.copytree(folder / QUICK, tmp_path / QUICK)
    assert make.judge(QUICK, tmp_path, coloured, make.RUN_UNDER) == frozen[QUICK][make.RUN_UNDER]
