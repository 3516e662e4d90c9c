"""Names of timm's architectures, read from its source, because importing timm takes seconds."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

CONVNETS = tuple(
    f"{prefix}{depth}" for prefix in ("convnet_d", "convnet_bn_d") for depth in range(1, 7)
)  # this package's own, registered with timm
REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
RENAMED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
OLD_NAME = re.compile(r"^\s*['\"]([\w.]+)['\"]\s*:", re.MULTILINE)


def timm_names() -> frozenset[str]:
    """Return every name that `timm.create_model` takes, without pretrained tags.

    From timm's registry if timm has been imported (a plug-in may have registered its own), else from its source.
    """
    if "timm" in sys.modules:
        from timm.models._registry import _model_entrypoints

        return frozenset(_model_entrypoints)
    return _names_in_source()


@cache
def _names_in_source() -> frozenset[str]:
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    found: set[str] = set()
    for path in (Path(spec.origin).parent / "models").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found.update(REGISTERED.findall(text))
        for block in RENAMED.findall(text):
            found.update(OLD_NAME.findall(block))
    return frozenset(found)
