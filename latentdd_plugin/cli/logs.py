"""Log lines and notes of the package on the command line."""

from __future__ import annotations

import contextlib
import logging
import sys


def start_logging(*, quiet: bool) -> None:
    """Write the package's log lines as plain text to stderr."""
    logger = logging.getLogger("latentdd_plugin")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())


def note(text: str | None, *, quiet: bool) -> None:
    """Write one line to stderr for the user, if there is something to say."""
    if text and not quiet:
        sys.stderr.write(f"dd-bench: {text}\n")


class _Lines(logging.Handler):
    """A handler that writes to the stderr of the moment, which a test or a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # the reader went away: that must not end a run
            sys.stderr.write(self.format(record) + "\n")
