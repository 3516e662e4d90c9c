"""The dataset that comes with scikit-learn: 1,797 handwritten digits."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentdd_plugin.data.draws import stratified
from latentdd_plugin.data.load import TEST_FRACTION


def digits() -> Any:
    """Return scikit-learn's 1,797 real handwritten digits (UCI, 1998) as a `datasets.DatasetDict`.

    Columns `image` (8x8 grey PNG) and `label` ('0' … '9'). The test split is a stratified 20% with seed 0.
    A mirrored digit is not a digit: `digits.flip` is False.
    """
    import datasets
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    grey = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    kept, removed = stratified(labels.astype(np.int64), TEST_FRACTION, "test")

    def png(pixels: NDArray[np.uint8]) -> dict[str, Any]:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="png")
        return {"bytes": file.getvalue(), "path": None}

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=[*"0123456789"])})
    return datasets.DatasetDict(
        {
            name: datasets.Dataset.from_dict(
                {"image": [png(p) for p in grey[rows]], "label": labels[rows].tolist()}, features=features
            )
            for name, rows in (("train", kept), ("test", removed))
        }
    )


digits.flip = False  # type: ignore[attr-defined]
