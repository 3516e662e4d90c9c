"""Image folders (SRe2L, RDED, D4M and many more): one folder per class with pictures in it."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import torch
from PIL import Image

from latentdd_plugin.artifacts.formats import values
from latentdd_plugin.artifacts.formats.base import ExternalSet, Format, ImportOptions
from latentdd_plugin.artifacts.formats.pictures import decode_paths
from latentdd_plugin.core.errors import DataError, UsageError
from latentdd_plugin.data.classes import class_order
from latentdd_plugin.data.file_kinds import is_picture, not_a_picture
from latentdd_plugin.data.walk import File, Tree, list_folder, printable

log = logging.getLogger(__name__)

MOST_NAMED = 20  # files left out that are named


class ImageFolder(Format):
    """`<class>/<picture>.png`. Pictures hold 256 levels, so writing clamps to [0, 1] and rounds to 1/255.

    Classes are the folders, in the order of datasets: whole numbers by value, everything else as text. Reading takes
    pictures of one size; deep ones (16 bits, floating point) by the rule of datasets. The set is grey only if every
    picture is. Soft labels and a learned rate have no place in a folder.
    """

    name = "imagefolder"
    out = values.PLAIN

    def read(self, path: Path, options: ImportOptions) -> ExternalSet:
        """Return all pictures, as pixels of [0, 1]; files that are left out are counted and named."""
        if not path.is_dir():
            raise UsageError(f"{path}: name the folder that holds the class folders")
        try:
            tree = list_folder(path)
        except DataError as error:
            raise UsageError(str(error)) from None
        pictures, left_out = _sorted_out(tree, path)
        if left_out:
            log.warning("%s: %s", path, _account(left_out, len(pictures)))
        classes = tuple(class_order(name for name, _ in pictures))
        number = {name: label for label, name in enumerate(classes)}
        pictures.sort(key=lambda pair: number[pair[0]])
        labels = torch.tensor([number[name] for name, _ in pictures])
        images = decode_paths([file.path for _, file in pictures], path)
        return ExternalSet(images, labels, classes=classes, values=values.PLAIN)

    def write(self, external: ExternalSet, folder: Path) -> None:
        """Write one PNG per picture, in folders named by the classes."""
        if external.label_kind != "hard" or external.lr is not None:
            raise UsageError(
                "a folder of pictures holds neither soft labels nor a learned rate; export huggingface does"
            )
        names = external.classes or ()
        unfit = [name for name in names if not _fit_for_a_folder(name)]
        if unfit:
            raise UsageError(f"class {unfit[0]!r} cannot be the name of a folder")
        levels = (external.images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for name in names:
            (folder / name).mkdir()
        for number, (pixels, label) in enumerate(zip(levels, external.labels.tolist(), strict=True)):
            shown = pixels[..., 0] if pixels.shape[2] == 1 else pixels
            Image.fromarray(shown).save(folder / names[label] / f"{number:05d}.png")


def _fit_for_a_folder(name: str) -> bool:
    return name.isprintable() and "/" not in name and not name.startswith(".") and 0 < len(name.encode()) < 256


def _sorted_out(tree: Tree, path: Path) -> tuple[list[tuple[str, File]], list[tuple[str, str]]]:
    """Return the pictures with their classes, and the name and reason of every other file.

    Raises:
        UsageError: there are no class folders, or class folders lie within others.
    """
    found = [file for file in tree.files if is_picture(file)]
    left_out = [*tree.left_out, *((file.name, not_a_picture(file)) for file in tree.files if not is_picture(file))]
    left_out += [(file.name, "a picture outside the class folders") for file in found if not file.folders]
    inside = [file for file in found if file.folders]
    depth = min((len(file.folders) for file in inside), default=0)
    wrappers = {file.folders[: depth - 1] for file in inside}
    if not inside:
        raise UsageError(f"{path}: no folders of classes with pictures in them")
    deeper = sorted({"/".join(file.folders) for file in inside if len(file.folders) > depth})
    if len(wrappers) > 1 or deeper:
        tops = sorted({file.folders[0] for file in inside})
        raise UsageError(
            f"{path}: class folders within folders ({printable(deeper or ['/'.join(w) for w in sorted(wrappers)])}); "
            f"name the one folder whose sub-folders are the classes, for example {path / tops[0]}"
        )
    return [(file.folders[depth - 1], file) for file in inside], left_out


def _account(left_out: list[tuple[str, str]], used: int) -> str:
    reasons = Counter(reason for _, reason in left_out)
    counted = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    names = printable([name for name, _ in left_out], MOST_NAMED)
    return f"{used} pictures used, {len(left_out)} files left out ({counted}): {names}"
