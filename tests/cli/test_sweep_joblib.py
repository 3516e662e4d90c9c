"""A real sweep in worker processes: nothing of it may depend on the parent's memory."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None, reason="the joblib extra is not installed"
)


MAIN = "import sys; from latentdd_plugin.cli.main import main; sys.exit(main())"


def test_jobs_run_side_by_side(tmp_path):
    words = "run --lpc 1,2 --protocol demo.v1 --evaluator convnet --controls none -m --out sweep --quiet"
    options = "algo.iterations=1 threads=1 device=cpu hydra/launcher=joblib hydra.launcher.n_jobs=2"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from latentdd_plugin.cli.main import main; sys.exit(main())",
            *f"{words} {options}".split(),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["lpc=1", "convnet", "fp32"], ["lpc=2", "convnet", "fp32"]]
    assert len(list((tmp_path / "sweep").glob("digits-dct-dm-*/result.json"))) == 2
