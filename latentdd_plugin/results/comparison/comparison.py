"""A comparison as callers see it: its record, and the record as a table."""

from __future__ import annotations

from dataclasses import dataclass

from latentdd_plugin.results.comparison.record import ComparisonRecord
from latentdd_plugin.results.comparison.table import text


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(ComparisonRecord):
    """A comparison of codecs, distillers, precisions and match spaces at one budget."""

    def table(self) -> str:
        """Return both ledgers side by side, the cost of each cell, what was not run, and how to read the table."""
        return text(self)
