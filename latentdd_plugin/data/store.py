"""Samples that do not stay in memory: memory-mapped parts on disk, and rows that are decoded whenever they are read.

Both are a `SampleStore` and work in parts of `PART` samples; a tensor is the third kind of store.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from latentdd_plugin.core import checkpoint
from latentdd_plugin.core.cache import cache_dir
from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.core.monitor import available_memory
from latentdd_plugin.core.processes import group
from latentdd_plugin.core.storage import atomic_write, claimed, require_space
from latentdd_plugin.core.types import Json, Shape, hash_json
from latentdd_plugin.data.images import DECODER, decode_rows
from latentdd_plugin.data.rows import ImageRows

log = logging.getLogger(__name__)

T = TypeVar("T")
PART = 1024  # samples per file, and per read
AHEAD = 2  # parts that are read while another one is worked on
LARGE = 2**33  # bytes of pixels above which a set's hash is taken over the hashes of its parts
DTYPES = {"U8": torch.uint8, "F16": torch.float16, "F32": torch.float32}  # names of safetensors


class PartStore(ABC):
    """Base of the stores that read from disk, part by part.

    Args:
        shape: (N, *shape of one sample).
        dtype: of the values.
        folder: where its files lie.
        owner: what these belong to.
    """

    device = torch.device("cpu")

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, folder: Path, owner: Mapping[str, Json]) -> None:
        self.shape, self.dtype, self.folder, self.owner = shape, dtype, folder, owner

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def part(self, number: int) -> Tensor:
        """Return samples number * PART … (number + 1) * PART."""

    @abstractmethod
    def _rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the samples at these positions."""

    @property
    def numbers(self) -> range:
        """The numbers of all parts."""
        return range(-(-len(self) // PART))

    def parts(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        """Yield these parts; a thread reads ahead while the caller works."""
        return read_ahead(self.part, numbers)

    def __getitem__(self, rows: Any) -> Tensor:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)), dtype=np.int64)
        chosen = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows, dtype=np.int64)
        return self._rows(chosen) if chosen.ndim else self._rows(chosen[None])[0]

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all samples in order, `size` at a time."""
        held: list[Tensor] = []
        for part in self.parts(self.numbers):
            held.append(part)
            while sum(map(len, held)) >= size:
                ready = torch.cat(held) if len(held) > 1 else held[0]
                yield ready[:size]
                held = [ready[size:]] if len(ready) > size else []
        if held:
            yield torch.cat(held)


def read_ahead(read: Callable[[int], T], numbers: Iterable[int]) -> Iterator[T]:
    """Yield `read(number)` of each number, in order, at most `AHEAD` of them early."""
    waiting: deque[Any] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(read, number))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class MappedStore(PartStore):
    """Samples in safetensors files of one part each, checked at the first look and memory-mapped.

    Args:
        paths: the files, by number.
        name: of the tensor in each file.
        owner: what the files belong to.
        count: number of samples in all.
    """

    def __init__(self, paths: Sequence[Path], name: str, owner: Mapping[str, Json], count: int) -> None:
        self._paths, self._name, self.owner = paths, name, owner
        self._checked: set[int] = set()
        self._maps: dict[int, NDArray[Any]] = {}
        first = self._map(0)
        dtype = torch.from_numpy(first[:1].copy()).dtype
        super().__init__((count, *first.shape[1:]), dtype, paths[0].parent, owner)

    def part(self, number: int) -> Tensor:
        """Return one part; its pages are given back at once."""
        return torch.from_numpy(np.array(self._map(number)))

    def _rows(self, rows: NDArray[np.int64]) -> Tensor:
        out = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        numbers = rows // PART
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for at in np.split(order, starts[1:]) if len(rows) else ():
            number = int(numbers[at[0]])
            if number not in self._maps:
                self._maps[number] = self._map(number)
            out[torch.from_numpy(at)] = torch.from_numpy(self._maps[number][rows[at] - number * PART])
        return out

    def _map(self, number: int) -> NDArray[Any]:
        path = self._paths[number]
        if number not in self._checked and checkpoint.read(path, self.owner) is None:
            path.unlink(missing_ok=True)
            raise RunFailed(f"{path} is damaged or gone; run the same command again to make it anew")
        self._checked.add(number)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[self._name]
        dtype = torch.empty(0, dtype=DTYPES[entry["dtype"]]).numpy().dtype
        return np.memmap(path, dtype, "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))


class RowStore(PartStore):
    """Pixels of a dataset's rows, decoded whenever they are read.

    Args:
        rows: the images.
        size: side in pixels they are resized to; None keeps their size.
        shape: (C, H, W) they come out as.
        stamp: identifies the files.
    """

    def __init__(self, rows: ImageRows, size: int | None, shape: Shape, stamp: str) -> None:
        chosen = hashlib.sha256(rows.rows.tobytes()).hexdigest()
        self.key = hash_json(["rows.v1", DECODER, stamp, rows.column, chosen, size, list(shape)])
        folder = cache_dir() / "images" / self.key
        super().__init__((len(rows.rows), *shape), torch.uint8, folder, {"images": self.key})
        self._images, self._size = rows, size
        self.tally = Tally()

    def part(self, number: int) -> Tensor:
        """Return one part, and note its hash and histogram.

        The hash runs through all parts in order. Of several processes none decodes all of them: what cannot be hashed
        yet is put aside on disk until the first process, in `summary_of`, has taken it.
        """
        aside = self.folder / f"aside-{number:05d}.npy"
        pixels = _array(aside)
        if pixels is None:
            pixels = self._rows(np.arange(number * PART, min((number + 1) * PART, len(self))))
        self.tally.add(number, pixels)
        if number < self.tally.next:
            aside.unlink(missing_ok=True)
        elif group().size > 1 and int(np.prod(self.shape)) <= LARGE and not aside.exists():
            with suppress(RunFailed), atomic_write(aside) as temporary, temporary.open("wb") as file:
                np.save(file, pixels.numpy())
        return pixels

    def _rows(self, rows: NDArray[np.int64]) -> Tensor:
        c, h, w = self.shape[1:]
        return decode_rows(replace(self._images, rows=self._images.rows[rows]), self._size, (c, h, w))


def _array(path: Path) -> Tensor | None:
    """Return an array on disk; None if there is none, or not a whole one."""
    try:
        return torch.from_numpy(np.load(path))
    except (OSError, ValueError, EOFError):
        return None


# --- hash and histogram -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Hash and histogram of every pixel of a set."""

    sha256: str  # over the pixels in order; of sets above LARGE bytes, over the hashes of their parts
    counts: tuple[tuple[int, ...], ...]  # (C, 256): how often each value occurs in a channel

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (C, 1, 1) of the pixels in [0, 1]."""
        counts = torch.tensor(self.counts, dtype=torch.float64)
        values, total = torch.arange(256, dtype=torch.float64), counts.sum(1)
        mean = (counts * values).sum(1) / total
        variance = (counts * (values - mean[:, None]).square()).sum(1) / total
        std = variance.sqrt().clamp_min(1e-6 * 255)
        return (mean / 255).float().view(-1, 1, 1), (std / 255).float().view(-1, 1, 1)


class Tally:
    """Hashes and histograms of the parts that were read so far."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[bytes, NDArray[np.int64]]] = {}
        self._whole, self.next = hashlib.sha256(), 0

    def add(self, number: int, pixels: Tensor) -> None:
        """Take a part into account; only the first look counts."""
        if number in self.seen and number != self.next:
            return
        data = pixels.numpy()
        if number == self.next:
            self._whole.update(data.data)
            self.next += 1
        if number not in self.seen:
            counts = [np.bincount(channel.reshape(-1), minlength=256) for channel in data.transpose(1, 0, 2, 3)]
            self.seen[number] = hashlib.sha256(data.data).digest(), np.stack(counts)

    @property
    def sha256(self) -> str:
        """The sha256 of all pixels, if every part was seen in order."""
        return self._whole.hexdigest()


def summary_of(store: PartStore) -> Summary:
    """Return hash and histogram of pixels, from an earlier process if it kept them; unseen parts are read now.

    Args:
        store: pixels uint8 (N, C, H, W).
    """
    path, owner = store.folder / "summary.json", store.owner
    stored = group().from_first(checkpoint.read_json(path, owner))
    if stored is None:
        made = _summarise(store)
        if group().first:
            checkpoint.write_json(path, {"sha256": made.sha256, "counts": made.counts}, owner)
        return made
    return Summary(stored.content["sha256"], tuple(map(tuple, stored.content["counts"])))


def _summarise(store: PartStore) -> Summary:
    tally, ours = getattr(store, "tally", Tally()), group()
    if int(np.prod(store.shape)) <= LARGE:
        if ours.first:
            _see(store, tally, range(tally.next, len(store.numbers)))
        sha256 = ours.from_first(tally.sha256)
        seen = ours.from_first(tally.seen)
        tally.next = len(store.numbers)  # nothing is put aside from now on
    else:
        held: set[int] = set().union(*ours.gather(set(tally.seen)))
        _see(store, tally, ours.share([number for number in store.numbers if number not in held]))
        seen = {number: one for some in ours.gather(tally.seen) for number, one in some.items()}
        sha256 = hashlib.sha256(b"".join(seen[number][0] for number in store.numbers)).hexdigest()
    counts = sum((seen[number][1] for number in store.numbers), np.zeros((store.shape[1], 256), np.int64))
    return Summary(sha256, tuple(tuple(map(int, channel)) for channel in counts))


def _see(store: PartStore, tally: Tally, numbers: Sequence[int]) -> None:
    for number, pixels in zip(numbers, store.parts(numbers), strict=True):
        tally.add(number, pixels)


# --- the choice of a store --------------------------------------------------------------------------------------------


def choose(asked: str, need: int, where: str, *, again: bool) -> str:
    """Return `memory`, `disk` or `stream`, and log the choice if it is not memory.

    Args:
        asked: `dataset.store`.
        need: bytes that these images and what is made of them take in memory.
        where: the split, for the log.
        again: pixels are needed again and again, so that decoding them each time would be slow.
    """
    if asked == "memory" or (asked == "auto" and need <= available_memory()):
        return "memory"
    found = "disk" if asked != "stream" and again else asked if asked != "auto" else "stream"
    why = f"{need / 1e9:.1f} GB needed, {available_memory() / 1e9:.1f} GB of memory available"
    what = {"disk": "decoded once and memory-mapped", "stream": "decoded whenever they are read"}[found]
    log.info("%s: images are %s (dataset.store=%s: %s)", where, what, found, why if asked == "auto" else "as asked for")
    return found


def fill(
    paths: Sequence[Path],
    read: Callable[[int], Tensor],
    make: Callable[[int, Tensor], Tensor],
    name: str,
    owner: Mapping[str, Json],
) -> None:
    """Make the files that are missing, each under its own lock.

    The processes of a run take turns; so do others, on this machine or another one, that fill the same folder.

    Args:
        paths: one file per part.
        read: returns what a part is made from; called ahead of time.
        make: turns it into the part's samples.
        name: of the tensor in each file.
        owner: what the files belong to.
    """
    ours = group()
    mine = ours.share([number for number, path in enumerate(paths) if not path.exists()])
    missing = (number for number in mine if not paths[number].exists())
    for number, found in read_ahead(lambda number: (number, read(number)), missing):
        with claimed(paths[number]) as free:
            if free and not paths[number].exists():
                checkpoint.write_tensors(paths[number], {name: make(number, found)}, owner)
    ours.gather(None)
    for number, path in enumerate(paths):
        if not path.exists():  # another process was making it
            with claimed(path, wait=True):
                if not path.exists():
                    checkpoint.write_tensors(path, {name: make(number, read(number))}, owner)


def on_disk(store: RowStore, progress: bool) -> MappedStore:
    """Return the pixels decoded to disk, by this process or an earlier one."""
    paths = [store.folder / f"part-{number:05d}.safetensors" for number in store.numbers]
    to_do = sum(not path.exists() for path in paths) * PART * int(np.prod(store.shape[1:], dtype=np.int64))
    advice = "read the images anew each time with dataset.store=stream, or shrink them with dataset.image_size"
    require_space(store.folder, to_do, "the decoded images", advice)
    with tqdm(total=len(store), unit="image", desc="decode to disk", disable=not progress) as bar:

        def counted(number: int, pixels: Tensor) -> Tensor:
            bar.update(len(pixels))
            return pixels

        fill(paths, store.part, counted, "pixels", store.owner)
    return MappedStore(paths, "pixels", store.owner, len(store))
