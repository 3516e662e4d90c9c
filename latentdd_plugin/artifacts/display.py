"""A decoded set as a Hugging Face dataset, and as a small picture for notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import datasets

SHOWN_CLASSES, SHOWN_PER_CLASS = 10, 8
SMALLEST_SIDE = 48  # px: smaller images are enlarged to about this


def to_bytes(images: Tensor) -> Tensor:
    """Return images (M, C, H, W) in [0, 1] units as uint8 (M, H, W, C), clamped and rounded."""
    return (images.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def picture(pixels: Tensor) -> Any:
    """Return one image uint8 (H, W, C) as a PIL image, grey or RGB."""
    from PIL import Image

    array = pixels.numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def dataset_of(images: Tensor, labels: Tensor, kind: str, classes: Sequence[str]) -> datasets.Dataset:
    """Return a `datasets.Dataset` with `image`, `label` and, for soft labels, a column named after their kind.

    Args:
        images: (M, C, H, W) in [0, 1] units; clamped and rounded to 8 bits.
        labels: int64 (M,), or float32 (M, classes); `label` is then the largest entry.
        kind: hard, probabilities or logits.
        classes: class names by label.
    """
    import datasets

    hard = kind == "hard"
    features: dict[str, Any] = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))}
    columns: dict[str, Any] = {
        "image": [picture(one) for one in to_bytes(images)],
        "label": (labels if hard else labels.argmax(1)).tolist(),
    }
    if not hard:
        features[kind] = datasets.Sequence(datasets.Value("float32"), length=len(classes))
        columns[kind] = labels.tolist()
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def html_of(title: str, images: Tensor | None, labels: Tensor, classes: Sequence[str]) -> str:
    """Return a line of text and a grid, a row per class, as HTML that needs no other file.

    Args:
        title: the line.
        images: (M, C, H, W) in [0, 1] units; None leaves the grid out.
        labels: int64 (M,).
        classes: class names by label; the first ten are shown.
    """
    text = f"<p>{html.escape(title)}</p>"
    if images is None:
        return text
    pixels, rows = to_bytes(images), []
    for label, name in enumerate(classes[:SHOWN_CLASSES]):
        members = (labels == label).nonzero().flatten()[:SHOWN_PER_CLASS]
        cells = "".join(f"<td>{_image_tag(pixels[int(i)])}</td>" for i in members)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f"{text}<table>{''.join(rows)}</table>"


def _image_tag(pixels: Tensor) -> str:
    buffer = io.BytesIO()
    picture(pixels).save(buffer, format="png")
    height, width = pixels.shape[:2]
    times = max(1, SMALLEST_SIDE // max(height, width))
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{width * times}" height="{height * times}" style="image-rendering: pixelated"'
    return f'<img {size} src="data:image/png;base64,{data}">'
