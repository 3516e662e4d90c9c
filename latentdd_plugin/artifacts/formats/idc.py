"""IDC (Kim et al., 2022, https://arxiv.org/abs/2205.14959): `data.pt`, several small images in each stored one."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions
from latentdd_plugin.artifacts.formats.tensor_checks import images_of, labels_of
from latentdd_plugin.artifacts.formats.unpickle import load_pt
from latentdd_plugin.core.errors import UsageError

log = logging.getLogger(__name__)

FILE = "data.pt"
GREY = 0.5  # what IDC pads with if the factor does not divide the side


class IDC(Format):
    """`[images, labels]`: float32 pixels (N, C, H, H) of [0, 1], not normalised, and int64 labels.

    With the multi-formation factor f each stored image is a grid of f x f images of side ceil(H / f), which IDC
    enlarges bilinearly to H before use (section 3.2; `decode_zoom` of its code). The file does not hold the factor, but
    the folder that IDC writes it to has it in its name (`_factor2_`). The small images become codes of `downscale`, so
    the bytes are those of the file. A folder may also hold folders `…_phase0`, `…_phase1` with some classes each.
    """

    name = "idc"
    writable = False
    takes = frozenset({"factor"})

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return the small images of one file, or of all phases."""
        files = _files(path)
        parts = [load_pt(file) for file in files]
        for file, part in zip(files, parts, strict=True):
            if not isinstance(part, (list, tuple)) or len(part) != 2:
                raise UsageError(f"{file}: a pair [images, labels] is needed")
        images = [images_of(part[0], f"{file}: images") for file, part in zip(files, parts, strict=True)]
        labels = [labels_of(part[1], f"{file}: labels") for file, part in zip(files, parts, strict=True)]
        if len({image.shape[1:] for image in images}) > 1:
            raise UsageError(f"{path}: its parts are of several shapes")
        factor = _factor(files[0], options.factor)
        whole = ExternalSet(
            torch.cat(images), torch.cat(labels), values=values.PLAIN, imagenet_order="IDC's misc/class100.txt"
        )
        return whole if factor == 1 else _split(whole, factor, path)


def _split(whole: ExternalSet, factor: int, path: Path) -> ExternalSet:
    """Return the f x f small images of every stored one."""
    height, width = whole.images.shape[2:]
    if height != width or factor > height:
        raise UsageError(f"{path}: images of {height}x{width} cannot be grids of {factor}x{factor}")
    if len(whole.labels) != len(whole.images):
        raise UsageError(f"{path}: {len(whole.images)} images, but {len(whole.labels)} labels")
    images = grid_cells(whole.images, factor)
    labels = whole.labels.repeat(factor**2)
    return replace(whole, images=images, labels=labels, factor=factor, size=(int(height), int(width)))


def grid_cells(images: Tensor, factor: int) -> Tensor:
    """Return the cells of images (N, C, H, H), row by row: (f * f * N, C, ceil(H / f), ceil(H / f))."""
    side = -(-images.shape[-1] // factor)
    missing = factor - images.shape[-1] % factor if images.shape[-1] % factor else 0
    padded = F.pad(images, (0, missing, 0, missing), value=GREY)
    cells = [
        padded[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(factor)
        for column in range(factor)
    ]
    return torch.cat(cells).contiguous()


def _factor(file: Path, given: int | None) -> int:
    folder = file.parent.name
    tag = re.search(r"_factor(\d+)(_multi|_bound)?(?:_|$)", folder)
    if given is not None and given < 1:
        raise UsageError(f"--factor {given}: must be at least 1")
    if tag and tag[2] == "_multi":
        raise UsageError(f"{file}: its folder's name says decode_type=multi, several factors at once; only one is read")
    if tag and given is not None and int(tag[1]) != given:
        raise UsageError(f"{file}: its folder's name says factor {tag[1]}, not {given}")
    if tag:
        return max(1, int(tag[1]))
    if given is None:
        raise UsageError(
            f"{file} does not say its multi-formation factor: give --factor (1 for IDC-I; IDC's own sets have 3 for "
            "ImageNet and 2 otherwise)"
        )
    return given


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / FILE).exists():
        return [path / FILE]
    phases = {
        int(m[1]): file for file in path.glob(f"*_phase*/{FILE}") if (m := re.search(r"_phase(\d+)$", file.parent.name))
    }
    if not phases:
        raise UsageError(f"{path}: no {FILE}, and no folders *_phase<n> with one each")
    missing = sorted(set(range(max(phases) + 1)) - set(phases))
    if missing:
        raise UsageError(f"{path}: phases {missing} are missing beside {sorted(phases)}")
    if len({re.sub(r"_phase\d+$", "", file.parent.name) for file in phases.values()}) > 1:
        raise UsageError(f"{path}: phases of several runs; name the folder of one")
    return [phases[number] for number in sorted(phases)]
