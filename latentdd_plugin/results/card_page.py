"""Where a card is kept, and the page that shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from latentdd_plugin.core.config import RunConfig
from latentdd_plugin.core.types import Json
from latentdd_plugin.results.grid import write_file, write_grid
from latentdd_plugin.results.pages import amount, count, points, render, spread
from latentdd_plugin.results.statistics import points as interval

SHOWN = 4  # images a class in the grid


@dataclass(frozen=True)
class Pictures:
    """What the card's page shows: real held-out images and what comes back of them."""

    originals: Tensor  # float32 (N, C, H, W) in [0, 1]
    decoded: Tensor  # float32 (N, C, H, W), not clamped
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]  # names by label


@dataclass(frozen=True)
class Table:
    """A section with rows; the first cell of a row is its name."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def codec_place(config: RunConfig, dataset: str) -> Path:
    """`codecs/<codec and its options>/<dataset>`, where the registry keeps the card, without an ending."""
    skipped = ("name", "path", "repo", "revision", "subfolder")
    options = [f"{key}={value}" for key, value in sorted(config.codec.items()) if key not in skipped]
    size = [f"{config.dataset.image_size}px"] if config.dataset.image_size else []
    codec = "-".join([plain(str(config.codec["name"])), *map(plain, options)])
    return Path("codecs") / codec / "-".join([plain(dataset), *size])


def plain(name: str) -> str:
    """A name as one of a file; of a path, what comes last."""
    last = re.split(r"[/:]", name)[-1]
    return re.sub(r"[^\w.=+-]", "_", last)


def save(place: Path, card: Mapping[str, Json], pictures: Pictures | None = None, *, page: bool = True) -> list[Path]:
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
    write_file(data, (json.dumps(card, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())
    if pictures is None:
        write_file(html, algo_page(card).encode())
        return [data, html]
    halves = pictures.originals, pictures.labels, pictures.decoded, pictures.classes
    write_grid(grid, *halves, per_class=SHOWN, captions=("held-out image", "decode(encode(image))"))
    if not page:
        return [data, grid]
    write_file(html, codec_page(card, grid.name).encode())
    return [data, html, grid]


# --- codecs -----------------------------------------------------------------------------------------------------------


def codec_page(card: Mapping[str, Json], grid: str | None, **site: Any) -> str:
    """The page of a codec's card; `grid` is the picture beside it, `site` what the base page of a site needs."""
    codec, dataset, values = card["codec"], card["dataset"], card["values"]
    quality, speed = card["quality"], card["speed"]
    shape = "×".join(map(str, codec["code_shape"]))
    trained = ", ".join(codec["trained_on"])
    tiles = [
        ("code", shape, f"{values['code']:,} values"),
        ("compression", f"{values['compression']:.3g}", "image values for each of the code"),
        ("decoder", amount(codec["decoder_bytes"]), "the tensors that decoding needs"),
        ("PSNR", f"{quality['psnr']['mean']:.2f} dB", f"± {quality['psnr']['std']:.2f} over images"),
        ("SSIM", f"{quality['ssim']['mean']:.3f}", f"± {quality['ssim']['std']:.3f}, window {quality['ssim_window']}"),
        ("encode", _rate(speed["encode_images_s"]), f"images, {speed['device']}, batch {speed['batch']}"),
        ("decode", _rate(speed["decode_images_s"]), f"images, {count(speed['threads'], 'thread')}"),
        ("trained on", trained or ("these images" if codec["fitted"] else "nothing"), ""),
    ]
    return _page(
        card,
        title=f"{codec['name']} on {dataset['name']}",
        kind="codec card",
        lead=_codec_lead(card),
        tags=[f"images {'×'.join(map(str, dataset['image_shape']))}", f"codes {shape}"],
        tiles=tiles,
        tables=[_accuracy(card["accuracy"])],
        grid=grid,
        details=("codec", "dataset", "environment"),
        **site,
    )


def _rate(a_second: float) -> str:
    """Three digits say enough: `2,070,000/s`."""
    return f"{float(f'{a_second:.3g}'):,.0f}/s" if a_second >= 100 else f"{a_second:.3g}/s"


def _codec_lead(card: Mapping[str, Json]) -> str:
    values, quality, accuracy = card["values"], card["quality"], card["accuracy"]
    text = (
        f"{values['code']:,} values for an image of {values['image']:,}: {quality['psnr']['mean']:.1f} dB on "
        f"{quality['images']:,} held-out training images."
    )
    for evaluator, gained in accuracy["codes"].get("difference", {}).items():
        side = "above" if gained["mean"] >= 0 else "below"
        text += f" {evaluator} trained on codes is {abs(100 * gained['mean']):.1f} points {side} one trained on pixels."
    return text


def _accuracy(accuracy: Mapping[str, Json]) -> Table:
    rows = []
    for name in ("pixels", "reconstructions", "codes"):
        entry = accuracy[name]
        for evaluator, stats in entry["summary"].items():
            arch = ", ".join(sorted({row["arch"] for row in entry["scores"] if row["evaluator"] == evaluator}))
            difference = entry.get("difference", {}).get(evaluator)
            rows.append((name, arch, spread(stats), interval(difference) if difference else ""))
        rows += [(name, row["evaluator"], f"not trained: {row['reason']}", "") for row in entry["skipped"]]
    note = (
        f"accuracy on {accuracy['scored_images']:,} held-out training images, protocol {accuracy['protocol']}, "
        f"{accuracy['steps']} steps; mean ± standard deviation over seeds"
    )
    return Table(
        "Is classification in this space equivalent?",
        note,
        ("trained on", "network", "accuracy", "against pixels, points [95%]"),
        tuple(rows),
    )


# --- algorithms -------------------------------------------------------------------------------------------------------


def algo_page(card: Mapping[str, Json]) -> str:
    """The page of an algorithm's card."""
    algo, gain = card["algo"], card["gain"]
    rows = [
        (evaluator, spread(stats), *_against_random(gain, evaluator)) for evaluator, stats in gain["summary"].items()
    ]
    over = Table(
        "Gain over random codes",
        f"{gain['codec']}, {gain['bytes_per_class']:,} bytes a class, {gain['codes_per_class']} codes a class; "
        f"accuracy on {gain['scored_images']:,} held-out training images, protocol {gain['protocol']}",
        ("network", algo["name"], "random codes", "gain, points [95%]"),
        tuple(rows),
    )
    return _page(
        card,
        title=str(algo["name"]),
        kind="algorithm card",
        lead=_algo_lead(card),
        tags=[f"matches in {' and '.join(algo['match_spaces'])} space", gain["dataset"]],
        tiles=[(key, str(value), "") for key, value in algo["config"].items()],
        tables=[over, _cells(card["cells"])],
        grid=None,
        details=("algo", "environment"),
    )


def _against_random(gain: Mapping[str, Json], evaluator: str) -> tuple[str, str]:
    if gain["random"] is None:
        return "", "it is the control"
    return spread(gain["random"][evaluator]), interval(gain["over_random"].get(evaluator))


def _algo_lead(card: Mapping[str, Json]) -> str:
    gain = card["gain"]
    evaluator, stats = next(iter(gain["summary"].items()))
    text = f"{evaluator} reaches {spread(stats)} on held-out {gain['dataset']}"
    if gain["over_random"] is None:
        return f"{text}: the control that others are compared with."
    over = gain["over_random"][evaluator]["mean"]
    return f"{text}, {points(over)} points over random codes at the same bytes, distilled in {gain['distill_s']:.1f} s."


def _cells(cells: Sequence[Mapping[str, Json]]) -> Table:
    rows = []
    for cell in cells:
        name = f"{cell['side']} px, IPC {cell['ipc']}"
        if "failed" in cell:
            rows.append((name, "", "", f"failed: {cell['failed']}"))
            continue
        steps = f"{cell['steps_s']:.3g}" if cell["steps_s"] else "does not count them"
        memory = f"{cell['peak_rss_mb']:,.0f} MB"
        device = cell["peak_device_mb"]
        memory += f", {device:,.0f} MB on the device" if device is not None else ""
        rows.append((name, steps, f"{cell['distill_s']:.2f} s", memory))
    return Table(
        "Speed and memory",
        "digits resized, pixels, a process each; a method that counts its iterations runs a few of them",
        ("", "steps a second", "distilled in", "peak memory"),
        tuple(rows),
    )


# --- both -------------------------------------------------------------------------------------------------------------


def _page(card: Mapping[str, Json], *, details: Sequence[str], **view: Any) -> str:
    findings = card["contracts"]
    broken = [f for f in findings if f["status"] == "broken"]
    return render(
        "card.html.j2",
        created=str(card["created"])[:16].replace("T", " "),
        command=card["command"],
        findings=findings,
        verdict=f"{len(broken)} broken" if broken else f"{len(findings)} contracts, none broken" if findings else "",
        details=[(key, [(str(k), _text(v)) for k, v in card[key].items()]) for key in details],
        **view,
    )


def _text(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
