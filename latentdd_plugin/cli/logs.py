"""Log lines of the package on the command line."""

from __future__ import annotations

import logging
import sys


def start_logging(*, quiet: bool) -> None:
    """The package's log lines as plain text on stderr."""
    logger = logging.getLogger("latentdd_plugin")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())


class _Lines(logging.Handler):
    """Writes to the stderr of the moment, which a test or a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
