"""A process that runs one cell, which it reads from its input, and ends with the process that started it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from latentdd_plugin.core.errors import DDBenchError
from latentdd_plugin.experiments.compare.outcomes import Order, run_here


def main() -> int:
    """Run the cell; 130 where it was interrupted, its progress saved."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    logger = logging.getLogger("latentdd_plugin")
    logger.setLevel(int(sys.argv[1]))
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  %(message)s"))
    logger.addHandler(handler)
    order = Order.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run_here(order)
    except KeyboardInterrupt:
        return 130
    except DDBenchError as error:  # not even the outcome could be written
        logger.error("%s", error)
        return error.exit_code
    return 0


def _end_with_parent() -> None:
    while os.read(0, 64):  # not through sys.stdin, whose lock this thread would hold at the end
        pass
    os.kill(os.getpid(), signal.SIGINT)
