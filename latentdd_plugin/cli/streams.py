"""Standard output and error as they may be: of any encoding, and closed by their reader at any time."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

BROKEN_PIPE = 141  # 128 + SIGPIPE, as for a program that the signal ends
PLAIN = {
    "…": "...", "±": "+-", "×": "x", "→": "->", "–": "-", "—": "-", "−": "-", "≤": "<=", "≥": ">=", "·": "-",
    "‘": "'", "’": "'", "“": '"', "”": '"', "²": "2",
}  # fmt: skip
HANDLER = "dd-bench-plain"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what an encoding does not have: signs by their ASCII forms, anything else by its escape.

    Bytes of a file name that could not be decoded go out as they came in.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"".join(map(_bytes_of, error.object[error.start : error.end])), error.end


def _bytes_of(sign: str) -> bytes:
    if "\udc80" <= sign <= "\udcff":
        return sign.encode("ascii", "surrogateescape")
    return PLAIN.get(sign, sign).encode("ascii", "backslashreplace")


codecs.register_error(HANDLER, _plain)


def accept_any_text() -> None:
    """Let standard output and error take any text, whatever their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=HANDLER)


def drop_output() -> None:
    """Send what is still to be written to standard output nowhere: its reader is gone."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
