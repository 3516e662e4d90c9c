"""Output under any encoding, and into a pipe whose reader goes away."""

import os
import subprocess
import sys

import pytest

from latentdd_plugin.cli import main, streams

DD_BENCH = (sys.executable, "-m", "latentdd_plugin")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "cp437"])
def test_help_of_every_command_under_any_encoding(encoding):
    code = (
        "import sys\nfrom latentdd_plugin.cli.main import COMMANDS, main\n"
        "assert main(['--help']) == 0\n"
        "for name in COMMANDS:\n"
        "    try:\n        main([name, '--help'])\n    except SystemExit as end:\n        assert end.code == 0\n"
        "main(['run', 'sead=\\u732b \\u2026'])\n"
    )
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"usage: dd-bench COMMAND" in done.stdout
    done.stdout.decode(encoding)


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_plain_locale_without_coercion(locale):
    env = {**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    env.pop("PYTHONIOENCODING", None)
    done = subprocess.run([*DD_BENCH, "--help"], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"usage: dd-bench COMMAND ..." in done.stdout.replace("…".encode(), b"...")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["list"], ["suite", "list"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_traceback(words, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([*DD_BENCH, *words], stdout=writer, stderr=subprocess.PIPE, env=env, check=False)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode in (0, streams.BROKEN_PIPE)  # argparse itself ignores it


def test_signs_have_an_ascii_form_and_other_letters_an_escape():
    assert "50 ± 1 … 猫".encode("ascii", streams.HANDLER) == b"50 +- 1 ... \\u732b"
    assert "ü …".encode("latin-1", streams.HANDLER) == b"\xfc ..."


def test_a_log_line_into_a_closed_stream_does_not_stop_a_run(monkeypatch):
    import logging

    from latentdd_plugin.cli.logs import start_logging

    class Closed:
        def write(self, _text):
            raise BrokenPipeError

    start_logging(quiet=False)
    monkeypatch.setattr(sys, "stderr", Closed())
    logging.getLogger("latentdd_plugin").warning("a line")


def test_the_exit_code_survives_the_flush(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dd-bench ")
