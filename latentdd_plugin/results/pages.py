"""Render HTML pages that need no other file, and choose round numbers for their axes. Every value is escaped."""

from __future__ import annotations

import math
from typing import Any

TEMPLATES = "latentdd_plugin.results"  # the package whose `templates` every page may extend


def render(template: str, *, package: str = TEMPLATES, **view: Any) -> str:
    """Fill in a template of `package`, or of this folder if the package lacks it; every value is escaped."""
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
    """Return round numbers from at most `low` to at least `high`."""
    rough = (high - low) / about or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step))
    return [i * step for i in range(first, last + 1)]
