"""`grid.png`: distilled images beside the real ones they are nearest to."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdd_plugin.core.errors import RunFailed

CELL = (64, 128)  # px: smaller images are enlarged to about the first, larger ones reduced to the second
ROWS = 50  # classes shown, so that a page of a thousand classes can be opened
INK = (124, 129, 137, 255)  # read on white and on black alike: the grid's background is transparent
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "png", "optimize": True},
    ".webp": {"format": "webp", "quality": 90},
}
CAPTIONS = ("distilled", "nearest real image")
START = "its start"
GAP, MARGIN = 3, 14  # px between images, and between parts


def write_grid(
    path: Path,
    decoded: Tensor,
    labels: Tensor,
    neighbours: Tensor | None,
    classes: Sequence[str],
    *,
    per_class: int = 8,
    captions: tuple[str, str] = CAPTIONS,
    start: Tensor | None = None,
) -> None:
    """Draw one row per class: its first decoded codes, what each started from, and the real image nearest to each.

    Args:
        path: where to write; .png or .webp.
        decoded: float (M, C, H, W), about [0, 1]; clamped to [0, 1] for these 8 bits only.
        labels: int64 (M,).
        neighbours: float (M, C, H, W) in [0, 1], one for each decoded code; None leaves the right half out.
        classes: class names by label; the first 50 with images are shown.
        per_class: images per row.
        captions: what stands over the first and the last part.
        start: float (M, C, H, W), the image that each code started from; None leaves the part out.

    Raises:
        RunFailed: the file cannot be written.
    """
    from PIL import Image, ImageDraw

    rows = _members(labels, classes, per_class)
    columns = max((len(found) for _, found in rows), default=1)
    width, height = _cell_size(int(decoded.shape[-1]), int(decoded.shape[-2]))
    font = _font(max(13, 2 * columns * width // 60))  # still read when the page shows it at half its size
    left = math.ceil(max((font.getlength(name) for name, _ in rows), default=0)) + MARGIN
    titled = [(captions[0], decoded), (START, start), (captions[1], neighbours)]
    there = [(caption, images) for caption, images in titled if images is not None]
    part = max(columns * (width + GAP) - GAP, *(math.ceil(font.getlength(caption)) for caption, _ in there))
    parts = [(images, left + i * (part + MARGIN), caption) for i, (caption, images) in enumerate(there)]
    top = math.ceil(1.6 * font.size)
    sheet = Image.new("RGBA", (parts[-1][1] + part, top + len(rows) * (height + GAP)))
    draw = ImageDraw.Draw(sheet)
    for images, x, caption in parts:
        draw.text((x, 0), caption, INK, font)
        for row, (_, found) in enumerate(rows):
            for column, index in enumerate(found):
                picture = _picture(images[index], width, height)
                sheet.paste(picture, (x + column * (width + GAP), top + row * (height + GAP)))
    for row, (name, _) in enumerate(rows):
        draw.text((left - MARGIN // 2, top + row * (height + GAP) + height // 2), name, INK, font, anchor="rm")
    file = io.BytesIO()
    sheet.save(file, **FORMATS[path.suffix])
    write_file(path, file.getvalue())


def _members(labels: Tensor, classes: Sequence[str], per_class: int) -> list[tuple[str, list[int]]]:
    """(name, which images) of every class that has any, at most `ROWS`."""
    found = [torch.nonzero(labels == label).flatten()[:per_class].tolist() for label in range(len(classes))]
    return [(_shortened(name, 24), which) for name, which in zip(classes, found, strict=True) if which][:ROWS]


def _cell_size(width: int, height: int) -> tuple[int, int]:
    """Pixels one image takes: a whole multiple of its size up to about 64, at most 128."""
    side = max(width, height)
    if side > CELL[1]:
        return max(1, round(width * CELL[1] / side)), max(1, round(height * CELL[1] / side))
    factor = max(1, CELL[0] // side)
    return width * factor, height * factor


def _picture(image: Tensor, width: int, height: int) -> Any:
    from PIL import Image

    image = image.detach().float().cpu().nan_to_num(0.0).clamp(0, 1)
    image = image if image.shape[0] == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
    pixels = image.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    smaller = width < pixels.shape[1]
    return Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    )


def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _shortened(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def write_file(path: Path, content: bytes) -> None:
    """Write a file and its folder; raise RunFailed if the system does not allow it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}. Free some space or choose another folder") from error
