"""Files are whole or not there, and what a killed process left is removed."""

import os
import subprocess
import sys

import pytest

from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.storage import atomic_write, is_disk_fault, locked


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_temporary_files_of_ended_processes_are_removed(tmp_path):
    stale = tmp_path / f".result.json.{ended_process()}.0123abcd.tmp"
    living = tmp_path / f".result.json.{os.getppid()}.0123abcd.tmp"
    foreign = tmp_path / ".result.json.tmp"
    for path in (stale, living, foreign):
        path.touch()
    with locked(tmp_path):
        assert not stale.exists()
        assert living.exists()
        assert foreign.exists()


def test_the_next_write_of_a_file_removes_what_the_last_one_left(tmp_path):
    pid = ended_process()
    mine, other = (tmp_path / f".{name}.{pid}.0123abcd.tmp" for name in ("a.json", "b.json"))
    mine.touch()
    other.touch()
    with atomic_write(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", other.name}


def test_a_write_that_fails_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RunFailed, match=r"cannot write .*: No space left on device"), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_seen_behind_other_errors():
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise ValueError("odd") from error
    except ValueError as error:
        assert is_disk_fault(error)
    assert not is_disk_fault(ValueError("odd"))
