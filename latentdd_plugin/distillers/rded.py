"""RDED: realistic, diverse and efficient dataset distillation (Sun, Shi, Yu & Lin, arXiv 2312.03526).

Each candidate image gives several random crops. The teacher keeps the crop that it is surest of,

    argmin over crops x of  -log p_teacher(y | x),

and of the images the surest ones (equations 7 to 9). Several crops, each shrunk, share one synthetic image. The labels
are the teacher's, so run it with `--labels teacher`, `views` or `soft`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentdd_plugin.core.types import SyntheticSet
from latentdd_plugin.distillers.base import Distiller
from latentdd_plugin.distillers.task import Task
from latentdd_plugin.distillers.work import TaskSize, Work
from latentdd_plugin.nn.views import apply_crops, draw_crops


@dataclass
class RDED(Distiller):
    """Crops chosen by the teacher, in any codec's space.

    Args:
        candidates: images of a class that are looked at (paper: 300); None takes all.
        crops: random crops per image, of which the surest is kept (paper: 5 on small images).
        factor: factor x factor crops share one synthetic image (paper: 1 at 32 px, 2 at 224 px).
        area: smallest share of the image that a crop shows (paper: 0.08, torchvision's default).
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "quick": {}}
    compares = False
    is_selection: ClassVar[bool] = True
    changes_codes: ClassVar[bool] = False
    needs_teacher = True

    candidates: int | None = 300
    crops: int = 5
    factor: int = 1
    area: float = 0.08

    def distill(self, task: Task) -> SyntheticSet:
        """Return the codes of the chosen crops, class by class."""
        codes, labels = [], []
        for label in range(task.num_classes):
            crops = self._surest(task, label, task.codes_per_class * self.factor**2)
            images = join(crops, self.factor)[: task.codes_per_class]
            codes.append(task.encode(images))
            labels.append(torch.full((len(images),), label))
            task.progress(label + 1, task.num_classes, math.nan)
        return SyntheticSet(torch.cat(codes), torch.cat(labels))

    def work(self, size: TaskSize) -> Work:
        """Return the teacher's pass over every crop of every candidate."""
        wanted = size.codes_per_class * self.factor**2
        looked_at = size.class_size if self.candidates is None else max(self.candidates, wanted)
        return Work(size.classes, teacher_passes=size.classes * min(looked_at, size.class_size) * self.crops)

    def _surest(self, task: Task, label: int, wanted: int) -> Tensor:
        """Return the crops (n, C, H, W) that the teacher is surest of, one per image, the surest first."""
        members, g = task.codes.by_class[label], task.generator("rded/crops", label)
        looked_at = len(members) if self.candidates is None else max(self.candidates, wanted)
        images = task.images(members[torch.randperm(len(members), generator=g)[:looked_at]])
        best, doubt = images, torch.full((len(images),), math.inf, device=images.device)
        for _ in range(self.crops):
            crops = apply_crops(images, draw_crops(len(images), (self.area, 1.0), g, ratio=(1.0, 1.0)))
            target = torch.full((len(images),), label, device=images.device)
            loss = F.cross_entropy(task.teacher.classify(crops), target, reduction="none")
            better = loss < doubt
            best = torch.where(better[:, None, None, None], crops, best)
            doubt = torch.where(better, loss, doubt)
        return best[doubt.argsort(stable=True)[:wanted]]


def join(crops: Tensor, factor: int) -> Tensor:
    """Return images (n, C, H, W) in which factor x factor crops (n * factor^2, C, H, W) lie side by side, shrunk."""
    if factor == 1:
        return crops
    n, (_, _, h, w) = len(crops) // factor**2, crops.shape
    rows = [h * i // factor for i in range(factor + 1)]
    columns = [w * i // factor for i in range(factor + 1)]
    images = crops[:n].clone()
    for number in range(factor**2):
        row, column = divmod(number, factor)
        size = rows[row + 1] - rows[row], columns[column + 1] - columns[column]
        part = F.interpolate(crops[number * n : (number + 1) * n], size, mode="bilinear", antialias=True)
        images[:, :, rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = part
    return images
