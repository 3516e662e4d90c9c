"""Files and pages of cards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.json_record import JsonRecord
from latentdd_plugin.core.types import Json
from latentdd_plugin.results.cards import AlgoCard, AlgoCell, AlgoGain, CodecCard, SpaceAccuracies
from latentdd_plugin.results.formatting import amount, count, points
from latentdd_plugin.results.grid import write_file, write_grid
from latentdd_plugin.results.pages import render
from latentdd_plugin.results.report import minutes

SHOWN = 4  # images per class in the grid


@dataclass(frozen=True)
class Pictures:
    """Real held-out images and their reconstructions, for a card's page."""

    originals: Tensor  # float32 (N, C, H, W) in [0, 1]
    decoded: Tensor  # float32 (N, C, H, W), not clamped
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]  # names by label


@dataclass(frozen=True)
class Table:
    """A section of a page; the first cell of a row is its name."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def codec_place(config: RunConfig, dataset: str) -> Path:
    """Return `codecs/<codec and its options>/<dataset>`: the card's place in a registry, without an ending."""
    skipped = ("name", "path", "repo", "revision", "subfolder")
    options = [f"{key}={value}" for key, value in sorted(config.codec.items()) if key not in skipped]
    size = [f"{config.dataset.image_size}px"] if config.dataset.image_size else []
    codec = "-".join([plain(config.codec.name), *map(plain, options)])
    return Path("codecs") / codec / "-".join([plain(dataset), *size])


def plain(name: str) -> str:
    """Return a name that a file may have; of a path, its last part."""
    last = re.split(r"[/:]", name)[-1]
    return re.sub(r"[^\w.=+-]", "_", last)


def save(place: Path, card: CodecCard | AlgoCard, pictures: Pictures | None = None, *, page: bool = True) -> list[Path]:
    """Write `place.json` with sorted keys, `place.html`, and a codec's `place.webp`; return their paths.

    Args:
        place: path of the files without their endings.
        card: the card's content.
        pictures: real and decoded images, for a codec's card.
        page: write the HTML page of a codec's card too.

    Raises:
        RunFailed: a file cannot be written.
    """
    data, html, grid = (place.with_name(f"{place.name}.{ending}") for ending in ("json", "html", "webp"))
    write_file(data, (json.dumps(card.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n").encode())
    if isinstance(card, AlgoCard):
        write_file(html, algo_page(card).encode())
        return [data, html]
    if pictures is None:
        raise ValueError("a codec's card needs pictures")
    halves = pictures.originals, pictures.labels, pictures.decoded, pictures.classes
    write_grid(grid, *halves, per_class=SHOWN, captions=("held-out image", "decode(encode(image))"))
    if not page:
        return [data, grid]
    write_file(html, codec_page(card, grid.name).encode())
    return [data, html, grid]


# --- codecs -----------------------------------------------------------------------------------------------------------


def codec_page(card: CodecCard, grid: str | None, **site: Any) -> str:
    """Return the page of a codec's card.

    Args:
        card: the card.
        grid: name of the picture beside the page, if there is one.
        **site: values for the base page of a site.
    """
    codec, values, quality, speed = card.codec, card.values, card.quality, card.speed
    trained = ", ".join(codec.trained_on)
    tiles = [
        ("code", codec.shape_text, f"{values.code:,} values"),
        ("compression", f"{values.compression:.3g}", "image values per value of the code"),
        ("decoder", amount(codec.decoder_bytes), "the tensors that decoding needs"),
        ("PSNR", f"{quality.psnr.mean:.2f} dB", f"± {quality.psnr.std:.2f} over images"),
        ("SSIM", f"{quality.ssim.mean:.3f}", f"± {quality.ssim.std:.3f}, window {quality.ssim_window}"),
        ("encode", _rate(speed.encode_images_s), f"images, {speed.device}, batch {speed.batch}"),
        ("decode", _rate(speed.decode_images_s), f"images, {count(speed.threads, 'thread')}"),
        ("trained on", trained or ("these images" if codec.fitted else "nothing"), ""),
    ]
    return _page(
        card,
        title=f"{codec.name} on {card.dataset.name}",
        kind="codec card",
        lead=_codec_lead(card),
        tags=[f"images {'×'.join(map(str, card.dataset.image_shape))}", f"codes {codec.shape_text}"],
        tiles=tiles,
        tables=[_accuracy(card.accuracy)],
        grid=grid,
        details={"codec": codec, "dataset": card.dataset, "environment": card.environment},
        **site,
    )


def _rate(per_second: float) -> str:
    """Format a rate with three significant digits: `2,070,000/s`."""
    return f"{float(f'{per_second:.3g}'):,.0f}/s" if per_second >= 100 else f"{per_second:.3g}/s"


def _codec_lead(card: CodecCard) -> str:
    values, quality = card.values, card.quality
    text = (
        f"{values.code:,} values for an image of {values.image:,}: {quality.psnr.mean:.1f} dB on "
        f"{quality.images:,} held-out training images."
    )
    for evaluator, difference in card.accuracy.codes.difference.items():
        text += f" {evaluator} trained on codes is {difference.side} one trained on pixels."
    return text


def _accuracy(accuracy: SpaceAccuracies) -> Table:
    rows = []
    for name, space in accuracy.spaces.items():
        for evaluator, stats in space.summary.items():
            arch = ", ".join(sorted({score.arch for score in space.scores if score.evaluator == evaluator}))
            difference = (space.difference or {}).get(evaluator)
            rows.append((name, arch, str(stats), str(difference or "")))
        rows += [(name, row.evaluator, f"not trained: {row.reason}", "") for row in space.skipped]
    note = (
        f"accuracy on {accuracy.scored_images:,} held-out training images, protocol {accuracy.protocol}, "
        f"{accuracy.steps} steps; mean ± standard deviation over seeds"
    )
    return Table(
        "Is classification in this space equivalent?",
        note,
        ("trained on", "network", "accuracy", "against pixels, points [95%]"),
        tuple(rows),
    )


# --- distillers -------------------------------------------------------------------------------------------------------


def algo_page(card: AlgoCard) -> str:
    """Return the page of a distiller's card."""
    algo, gain = card.algo, card.gain
    rows = [(evaluator, str(stats), *_against_random(gain, evaluator)) for evaluator, stats in gain.summary.items()]
    over = Table(
        "Gain over random codes",
        f"{gain.codec}, {gain.bytes_per_class:,} bytes per class, {count(gain.codes_per_class, 'code')} per class; "
        f"accuracy on {gain.scored_images:,} held-out training images, protocol {gain.protocol}",
        ("network", algo.name, "random codes", "gain, points [95%]"),
        tuple(rows),
    )
    return _page(
        card,
        title=algo.name,
        kind="distiller card",
        lead=_algo_lead(gain),
        tags=[f"matches in {' and '.join(algo.match_spaces)} space", gain.dataset],
        tiles=[(key, str(value), "") for key, value in algo.config.items()],
        tables=[over, _cells(card.cells)],
        grid=None,
        details={"algo": algo, "environment": card.environment},
    )


def _against_random(gain: AlgoGain, evaluator: str) -> tuple[str, str]:
    if gain.random is None or gain.over_random is None:
        return "", "it is the baseline"
    return str(gain.random.get(evaluator, "-")), str(gain.over_random.get(evaluator, "-"))


def _algo_lead(gain: AlgoGain) -> str:
    evaluator, stats = next(iter(gain.summary.items()))
    text = f"{evaluator} reaches {stats} on held-out {gain.dataset}"
    over = None if gain.over_random is None else gain.over_random.get(evaluator)
    if over is None:
        return f"{text}: the baseline that others are compared with."
    seconds = "" if gain.distill_s is None else f", distilled in {gain.distill_s:.1f} s"
    return f"{text}, {points(over.mean)} points over random codes at the same bytes{seconds}."


def _cells(cells: Sequence[AlgoCell]) -> Table:
    rows = []
    for cell in cells:
        name = f"{cell.side} px, IPC {cell.ipc}"
        if cell.failed is not None or cell.distill_s is None or cell.peak_rss_mb is None:
            rows.append((name, "", "", f"failed: {cell.failed}"))
            continue
        steps = f"{cell.steps_s:.3g}" if cell.steps_s else "does not count them"
        device = cell.peak_device_mb
        memory = f"{cell.peak_rss_mb:,.0f} MB"
        memory += f", {device:,.0f} MB on the device" if device is not None else ""
        rows.append((name, steps, f"{cell.distill_s:.2f} s", memory))
    return Table(
        "Speed and memory",
        "digits resized, pixels, one process each; a method that counts its iterations runs a few of them",
        ("", "steps per second", "distilled in", "peak memory"),
        tuple(rows),
    )


# --- both -------------------------------------------------------------------------------------------------------------


def _page(card: CodecCard | AlgoCard, *, details: Mapping[str, JsonRecord], **view: Any) -> str:
    findings = card.contracts
    broken = [finding for finding in findings if finding.status == "broken"]
    return render(
        "card.html.j2",
        created=minutes(card.created),
        command=card.command,
        findings=findings,
        verdict=f"{len(broken)} broken" if broken else f"{len(findings)} contracts, none broken" if findings else "",
        details=[
            (name, [(key, _text(value)) for key, value in entry.to_json().items()]) for name, entry in details.items()
        ],
        **view,
    )


def _text(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
