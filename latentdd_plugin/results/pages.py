"""How pages are made, and how they say numbers. A page needs nothing else, and shows any text as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from latentdd_plugin.core.types import Json

TEMPLATES = "latentdd_plugin.results"  # the package whose `templates` every page may extend


def render(template: str, *, package: str = TEMPLATES, **view: Any) -> str:
    """Fill in a template of `package`, or of this folder where it has none of that name; every value is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, TEMPLATES))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["count"] = lambda n: f"{n:,}"
    return pages.get_template(template).render(**view)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    rough = (high - low) / about or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step))
    return [i * step for i in range(first, last + 1)]


def spread(stats: Mapping[str, Json]) -> str:
    """A summary: `90.0 ± 0.5%`."""
    spread = f" ± {100 * stats['std']:.1f}" if stats.get("std") is not None else ""
    return f"{100 * stats['mean']:.1f}{spread}%"


def points(fraction: float) -> str:
    """A difference of accuracies in percentage points: `+2.1`, with a true minus sign."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


def percent(value: float) -> str:
    """A fraction: `44.2%`."""
    return f"{100 * value:.3g}%"


def count(n: int, what: str) -> str:
    """A number of things: `1 code`, `31 codes`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def amount(size: float) -> str:
    """Bytes in a few signs: `640 B`, `20 kB`, `1.5 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.3g} B"
