"""A fresh environment: a real one of its own, in which only what is installed there is added to ours."""

import os
import subprocess
import sysconfig
import venv
from pathlib import Path

COMMANDS = {
    "pip": "-m pip",
    "pytest": "-m pytest",
    "torchrun": "-m torch.distributed.run",
    "dd-bench": "-c 'import sys; from latentdd_plugin.cli.main import main; sys.exit(main())'",
}


def environment(folder):
    """Make it in `folder`; the variables with which a command runs in it.

    Packages are installed from their own folder alone: no index is asked, and the build backend is the one there is.
    """
    venv.create(folder, with_pip=False)
    bin_folder, ours = Path(folder) / "bin", sysconfig.get_path("purelib")
    theirs = next((Path(folder) / "lib").glob("python*/site-packages"))
    (theirs / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for name, words in COMMANDS.items():
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {bin_folder}/python {words} "$@"\n')
        script.chmod(0o755)
    options = {
        "VIRTUAL_ENV": str(folder),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }
    return {**os.environ, **options}


def shell(line, folder, variables):
    """Run a line; its exit code and what it said."""
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=variables, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
