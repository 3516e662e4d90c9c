"""The leaderboard as a reader has it: opened from disk in a real browser."""

import json

import browser
import pytest

from latentdd_plugin.leaderboard.site import build
from latentdd_plugin.leaderboard.table import LEDGERS

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")
SHOWN = "[...document.querySelectorAll('.ledger:not([hidden]) .entry:not([data-hidden])')]"


@pytest.fixture(scope="module")
def site(filled, tmp_path_factory):
    return build(filled, tmp_path_factory.mktemp("site") / "site").folder


@pytest.fixture(scope="module")
def window():
    window = browser.Browser()
    yield window
    window.close()


@pytest.fixture
def page(window, site):
    """The suite's page, in a wide window; afterwards nothing may have complained."""
    window.faults.clear()
    window.window(1280)
    window.open(site / "suites" / "tiny.v1.html")
    yield window
    assert window.faults == []


def column(page, key):
    """The values by which a column sorts, of the rows that can be seen, from the top."""
    at = f"[...document.querySelectorAll('#bytes th')].findIndex(head => head.dataset.sort === '{key}')"
    return page.run(f"{SHOWN}.map(row => row.cells[{at}].dataset.v)")


def choose(page, name, value):
    page.run(
        f"(() => {{ const field = document.querySelector('[name={name}]'); field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def click(page, selector):
    page.run(f"document.querySelector({json.dumps(selector)}).click()")


def test_it_opens_sorted_by_rank(page):
    ranks = column(page, "rank")
    assert ranks == ["1", *ranks[1:-2], "", ""]
    assert ranks[:-2] == sorted(ranks[:-2], key=int)
    assert page.run("document.querySelector('output').textContent") == "7 of 7 shown"
    assert page.run("document.querySelector('[data-sort=rank]').getAttribute('aria-sort')") == "ascending"


@pytest.mark.parametrize(("key", "number"), [("accuracy", True), ("images", True), ("codec", False)])
def test_a_head_sorts_and_sorts_back(page, key, number):
    click(page, f"#bytes [data-sort={key}] button")
    first = column(page, key)
    click(page, f"#bytes [data-sort={key}] button")
    second = column(page, key)
    by = float if number else str
    assert sorted([first, second]) == sorted([sorted(first, key=by), sorted(first, key=by, reverse=True)])
    assert len(set(first)) > 1


def test_filters_and_search_narrow_the_table_and_the_plot(page):
    choose(page, "codec", "pca")
    assert column(page, "codec") == ["pca"]
    assert page.run("document.querySelector('output').textContent") == "1 of 7 shown"
    seen = "[...document.querySelectorAll('.plain .point')].filter(p => getComputedStyle(p).display !== 'none').length"
    assert page.run(seen) == 1
    choose(page, "codec", "")
    choose(page, "q", "identity RANDOM")
    assert column(page, "codec") == ["identity"]
    choose(page, "q", "no such thing")
    assert column(page, "codec") == []
    click(page, "button[type=reset]")
    page.run("new Promise(done => setTimeout(done, 50))")
    assert len(column(page, "codec")) == 7


def test_the_other_ledger_and_the_decoders_bytes_are_one_click_away(page):
    assert page.run("getComputedStyle(document.querySelector('#count')).display") == "none"
    click(page, "[value=count]")
    assert page.run("getComputedStyle(document.querySelector('#bytes')).display") == "none"
    assert len(column(page, "rank")) == 7
    click(page, "[value=bytes]")
    pca = "document.querySelector('#bytes .entry[data-codec=pca]').cells[0].innerText"
    assert page.run(pca) != "–"
    click(page, "[name=decoder]")
    assert page.run(pca) == "–", "its decoder exceeds the budget"


def test_the_address_keeps_what_is_shown(page, site):
    choose(page, "codec", "dct")
    click(page, "#bytes [data-sort=accuracy] button")
    fragment = page.run("location.hash")
    rows = column(page, "accuracy")
    page.open(site / "suites" / "tiny.v1.html", fragment)
    assert column(page, "accuracy") == rows
    assert set(column(page, "codec")) == {"dct"}
    page.open(site / "suites" / "tiny.v1.html", "#codec=none-such&sort=<b>&ledger=x")
    assert len(column(page, "codec")) == 7


def test_the_keyboard_reaches_heads_links_and_points(page):
    page.run("document.querySelector('#bytes [data-sort=gain] button').focus()")
    page.key("Enter", "\r")
    assert page.run("document.querySelector('#bytes [data-sort=gain]').getAttribute('aria-sort')") == "descending"
    page.key("Tab")
    assert page.run("document.activeElement.parentElement.dataset.sort") == "status"
    page.run("document.querySelector('.plain .point').focus()")
    assert page.run("document.activeElement.classList.contains('point')")
    page.key("Enter", "\r")
    page.run("new Promise(done => setTimeout(done, 300))")
    assert "/submissions/tiny.v1/" in page.run("location.href")


def test_every_page_is_free_of_complaints_and_fits_a_phone(page, site):
    for path in sorted(site.rglob("*.html")):
        for dark in (False, True):
            page.window(390, 844, dark=dark)
            page.open(path)
            assert page.run("document.documentElement.scrollWidth <= innerWidth"), path
        light_on_dark = page.run("getComputedStyle(document.body).color")
        page.window(390, 844)
        assert page.run("getComputedStyle(document.body).color") != light_on_dark
    assert not page.run("typeof alerted !== 'undefined'")


def test_without_scripts_all_ledgers_stand_there(window, site):
    window.window(1280, scripts=False)
    window.open(site / "suites" / "tiny.v1.html")
    window.window(1280)
    seen = window.run("[...document.querySelectorAll('.ledger')].map(l => getComputedStyle(l).display)")
    assert seen == ["block"] * len(LEDGERS)
    assert window.run("getComputedStyle(document.querySelector('.filters')).display") == "none"
