"""The grid and the page: what is drawn, what is said, and that names cannot become markup."""

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from latentdd_plugin.core.errors import RunFailed
from latentdd_plugin.leaderboard.consistency import contradictions
from latentdd_plugin.results.grid import write_grid
from latentdd_plugin.results.record import Record
from latentdd_plugin.results.report import curve, write_report

PIXELS, LABELS = load_digits(return_X_y=True)
DIGITS = torch.tensor(PIXELS, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
LABELS = torch.tensor(LABELS)


def stats(mean, half=0.01, n=3):
    return {
        "mean": mean,
        "std": None if n < 2 else half / 2,
        "n": n,
        "ci95": [mean - half, mean + half] if n > 2 else None,
    }


def budget(codes, precision="int4"):
    spent = {"codes": 2550, "labels": 0, "side": 96, "decoder": 1234, "file": 3456, "total": 2550}
    return {
        "ipc": 1,
        "bytes_per_class": 256,
        "codes_per_class": codes,
        "codes": 10 * codes,
        "precision": precision,
        "bytes": {**spent, "total_with_decoder": 3784},
    }


def part(mean, n=3):
    rows = [{"evaluator": "convnet", "arch": "convnet_d1", "kwargs": {}, "params": 9, "seed": i} for i in range(n)]
    return {
        "summary": {"convnet": stats(mean, n=n)},
        "scores": [{**r, "accuracy": mean + r["seed"] / 500} for r in rows],
    }


def record(**more):
    """The content of a result.json."""
    fixture = json.loads((Path(__file__).parents[1] / "fixtures" / "result.v1.json").read_text())
    settings, file = fixture["config"], {"path": "distilled.safetensors", "sha256": "ab" * 32, "bytes": 3456}
    beside = {"config": settings, "codec": fixture["codec"], "artifact": file}
    return {
        **fixture,
        "created": "2026-11-23T07:40:11+00:00",
        "command": "dd-bench run --codec dct --algo dm",
        "codec": {**fixture["codec"], "name": "dct", "config": {"size": 4}, "code_shape": [1, 4, 4]},
        "budget": budget(31),
        **part(0.9),
        "skipped": [{"evaluator": "vgg11", "reason": "needs at least 32 pixels per side"}],
        "controls": {
            "random-codes": {**beside, **part(0.87), "budget": budget(31), "gain": {"convnet": stats(0.03)}},
            "random-pixels": {**beside, **part(0.95), "budget": budget(8), "gain": {"convnet": stats(-0.05)}},
            "random-pixels-fp32": {"skipped": "256 bytes per class hold no image"},
        },
        "cost": {
            "encode_s": 0.1,
            "distill_s": 300.0,
            "step_ms_median": 12.5,
            "peak_rss_mb": 700,
            "peak_device_mb": None,
        },
        "artifact": file,
        "environment": {**fixture["environment"], "packages": {"torch": "2.15.0"}},
        "seeds": {"run": 0, "evaluation": [0, 1, 2]},
        **more,
    }


class Page(HTMLParser):
    """The tags and the text of a page; complains of a tag that is never closed."""

    VOID = ("meta", "img", "line", "polyline", "br")

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.words, self.addresses = [], [], [], []
        self.feed(page)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def grid(tmp_path):
    write_grid(tmp_path / "grid.png", DIGITS[:40], LABELS[:40], DIGITS[:40], list("0123456789"))
    return tmp_path / "grid.png"


def page_of(tmp_path, grid, data, losses=((0, 3.0), (50, 2.0), (100, 1.5))):
    write_report(tmp_path / "report.html", Record.from_json(data), losses, grid)
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    return raw, Page(raw)


def test_grid_shows_codes_and_neighbours_enlarged(tmp_path):
    decoded = torch.stack([DIGITS[0] + 5, DIGITS[0] - 5, DIGITS[1].mul(float("nan"))])  # white, black, not a number
    write_grid(tmp_path / "grid.png", decoded, torch.tensor([0, 0, 2]), DIGITS[:3], ["a", "unused", "c"])
    sheet = Image.open(tmp_path / "grid.png").convert("RGBA")
    width, height = sheet.size
    right = sheet.crop((width - 131, height - 134, width, height - 3))  # two columns and two rows of 64 + 3 px
    first = torch.from_numpy(np.array(right.crop((0, 0, 64, 64)).convert("L")))[4::8, 4::8]
    assert (first - DIGITS[0, 0] * 255).abs().max() <= 1
    assert right.getpixel((100, 100))[3] == 0  # class c has one image
    left = width - 131 - 14 - 131
    assert sheet.getpixel((left + 30, height - 100))[:3] == (255, 255, 255)
    assert sheet.getpixel((left + 97, height - 100))[:3] == (0, 0, 0)
    assert sheet.getpixel((left + 30, height - 30)) == (0, 0, 0, 255)


@pytest.mark.parametrize(
    ("shape", "cell"), [((3, 8, 8), 64), ((1, 32, 32), 64), ((3, 100, 100), 100), ((3, 300, 150), 128)]
)
def test_grid_sizes(tmp_path, shape, cell):
    images = torch.rand(12, *shape)
    write_grid(tmp_path / "g.png", images, torch.arange(12) // 6, None, ["one", "two"], per_class=4)
    raw = (tmp_path / "g.png").read_bytes()
    width, height = struct.unpack(">II", raw[16:24])
    assert 2 * (cell + 3) < height < 2 * (cell + 3) + 60
    write_grid(tmp_path / "h.png", images, torch.arange(12) // 6, images, ["one", "two"], per_class=4)
    assert struct.unpack(">II", (tmp_path / "h.png").read_bytes()[16:24])[0] > 1.5 * width
    write_grid(tmp_path / "i.png", images[:1], torch.tensor([0]), images[:1], ["one"])  # room for the captions
    assert struct.unpack(">II", (tmp_path / "i.png").read_bytes()[16:24])[0] > 2 * 110


def test_grid_of_many_classes_stays_small(tmp_path):
    names = [f"class number {i} of a very long name that would push the pictures out" for i in range(300)]
    write_grid(tmp_path / "g.png", DIGITS[:300], torch.arange(300), None, names)
    with Image.open(tmp_path / "g.png") as sheet:
        width, height = sheet.size
    assert height < 50 * 67 + 60
    assert width < 400


def test_page_tells_everything(tmp_path, grid):
    raw, page = page_of(tmp_path, grid, record())
    for said in (
        "digits · dct + dm",
        "convnet reaches 90.0% ± 0.5 on digits with 31 codes per class, 256 bytes per class at int4: 3.0 points above",
        "random codes at the same bytes, 95% interval [+2.0, +4.0], so the method adds to them.",
        "[89.0, 91.0]",
        "+3.0 [+2.0, +4.0]",
        "-5.0 [-6.0, -4.0]",
        "not run: 256 bytes per class hold no image",
        "vgg11 needs at least 32 pixels per side",
        "charged to the budget 2,550",
        "charged, with decoder 3,784",
        "budget 256 per class, 2,560 in all",
        "distil 5.0 min",
        "one step 12 ms",
        "3 at the start, 1.5 at the end",
        "dd-bench run --codec dct --algo dm",
        "ab" * 32,
        "torch:2.15.0",
        "2026-11-23 07:40 UTC",
    ):
        assert said in page.text, said
    assert 'class="gain up"' in raw
    assert 'class="gain down"' in raw
    assert raw.count('class="seed"') == 9


@pytest.mark.parametrize(
    ("gain", "n", "says"),
    [
        (
            0.03,
            3,
            "3.0 points above random codes at the same bytes, 95% interval [+2.0, +4.0], so the method adds to them.",
        ),
        (
            -0.03,
            3,
            "3.0 points below random codes at the same bytes, 95% interval [-4.0, -2.0], so the method is worse",
        ),
        (0.002, 3, "0.2 points above random codes at the same bytes, 95% interval [-0.8, +1.2], which may be chance"),
        (0.03, 2, "3.0 points above random codes at the same bytes; it takes three seeds to tell that from chance."),
    ],
)
def test_the_first_sentence_says_what_the_result_is_worth(tmp_path, grid, gain, n, says):
    data = record()
    data["controls"]["random-codes"]["gain"] = {"convnet": stats(gain, n=n)}
    assert says in page_of(tmp_path, grid, data)[1].text


def test_without_a_baseline_the_worth_is_not_known(tmp_path, grid):
    assert "what the method adds is not known" in page_of(tmp_path, grid, record(controls={}))[1].text
    baseline = record(controls={}, distiller={**record()["distiller"], "name": "random"})
    assert "this is the baseline of other methods" in page_of(tmp_path, grid, baseline)[1].text


def test_grid_shows_the_start_between_code_and_neighbour(tmp_path):
    black, white = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    write_grid(tmp_path / "g.png", black, torch.tensor([0, 1]), white, ["a", "b"], start=black + 0.5)
    sheet = Image.open(tmp_path / "g.png").convert("RGBA")
    row = [sheet.getpixel((x, sheet.height - 30)) for x in range(sheet.width)]
    greys = [pixel[0] for pixel in row if pixel[3] == 255 and pixel[0] == pixel[1] == pixel[2]]
    order = [grey for i, grey in enumerate(greys) if i == 0 or grey != greys[i - 1]]
    assert order == [0, 128, 255]


def test_page_needs_nothing_else(tmp_path, grid):
    raw, page = page_of(tmp_path, grid, record())
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "a"} & set(page.tags)
    assert "http:" not in raw and "https:" not in raw and "url(" not in raw
    assert "color-scheme: light dark" in raw
    assert 'name="viewport"' in raw


def test_a_thousand_classes_take_a_page_of_ordinary_size(tmp_path, grid):
    names = [f"class {n}" for n in range(1000)]
    data = record(dataset={**record()["dataset"], "classes": names})
    for row in data["scores"]:
        row |= {"top5": 0.95, "by_class": [n / 1000 for n in range(1000)], "confused": [[1, 999, 7], [2, 3, 5]]}
    raw, page = page_of(tmp_path, grid, data)
    assert len(raw) < 200_000
    assert "the 10 best and the 10 worst of 1,000 classes" in page.text
    assert "class 999 99.9%" in page.text
    assert "class 1 class 999 21" in page.text, "images of three networks"
    assert "top-5 95.0%" in page.text
    assert "top-5: convnet 95.0% ± 0.0" in Record.from_json(data).table()
    data["scores"][0]["by_class"].pop()
    assert any("999 entries for 1000 classes" in fault for fault in contradictions(Record.from_json(data)))
    assert "By class" not in page_of(tmp_path, grid, data)[1].text


def test_names_cannot_become_markup(tmp_path, grid):
    bad = '<script>alert("x")</script>&amp;'
    data = record(
        command=bad, skipped=[{"evaluator": bad, "reason": bad}], seeds={"run": 0, "evaluation": [0], bad: bad}
    )
    data["dataset"]["name"] = data["codec"]["name"] = data["protocol"]["name"] = bad
    data["controls"][bad] = {"skipped": bad}
    data["summary"] = {bad: stats(0.5)}
    raw, page = page_of(tmp_path, grid, data)
    assert "script" not in page.tags
    assert raw.count("<script") == 0
    assert page.text.count(bad) > 5


def test_page_of_a_bare_run(tmp_path, grid):
    """One seed, no baseline, no loss, only what a record must hold."""
    data = record(**part(0.5, n=1), cost={}, skipped=[], controls={})
    _, page = page_of(tmp_path, grid, data, losses=[(0, float("nan"))])
    assert "50.0% 1 seed, no interval" in page.text
    assert "Learning curve" not in page.text
    assert "Not evaluated" not in page.text
    none = record(summary={}, scores=[], controls={})
    assert "No evaluator could be run" in page_of(tmp_path, grid, none)[1].text


def test_curve():
    assert curve([]) is None
    assert curve([(0, 1.0)]) is None
    flat = curve([(0, 1.0), (10, 1.0)])
    assert len(flat.y) >= 2
    line = curve([(0, 1.0), (5, float("inf")), (10, 0.0)])
    assert line.points == "0.0,0.0 100.0,100.0"
    assert not line.log
    steep = curve([(0, 1000.0), (100, 1.0)])
    assert steep.log
    assert [text for _, text in steep.y] == ["1", "10", "100", "1000"]
    assert all(0 <= float(v) <= 100 for v in re.split("[ ,]", curve([(3, 0.37), (99, -0.2), (200, 4.4)]).points))


def test_unwritable(tmp_path, grid):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFailed, match=r"cannot write .*report\.html: "):
        write_report(tmp_path / "file" / "report.html", Record.from_json(record()), [], grid)
