"""A small autoencoder whose weights come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from latentdd_plugin.codecs.diffusers import Diffusers
from latentdd_plugin.core.errors import UsageError
from latentdd_plugin.core.types import Json

BUNDLED = Path(__file__).parent / "weights"
FACTORS = (4, 8)


class TinyVAE(Diffusers):
    """An AutoencoderTiny trained by `dd-bench codec train`. Codes are float32 (N, 4, H/f, W/f).

    The command, the data and the training curve are in `weights/tiny-vae-f<f>/training.json`, the terms of the
    data in `weights/README.md`. Its decoder saw the datasets in `trained_on`: on those, compare bytes with decoder.

    Args:
        f: pixels per side that become one, 4 or 8. 4 for images up to about 64 pixels, 8 for larger ones.

    Raises:
        UsageError: there are no weights for this f.
    """

    codec_id: ClassVar[str] = "tiny-vae"
    locations: ClassVar[tuple[str, ...]] = ()

    def __init__(self, f: int = 4) -> None:
        if faults := self.option_faults({"f": f}):
            raise UsageError(faults)
        super().__init__(path=str(BUNDLED / f"tiny-vae-f{f}"))
        self.f = f

    @classmethod
    def option_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return a fault if there are no weights for this f."""
        f = options.get("f", 4)
        if f in FACTORS:
            return []
        return [
            f"tiny-vae: codec.f={f}: there are weights for {' and '.join(map(str, FACTORS))}; "
            f"`dd-bench codec train --f {f}` makes others"
        ]

    @classmethod
    def weight_faults(cls, options: Mapping[str, Json]) -> list[str]:
        """Return nothing: the weights come with the package."""
        return []
