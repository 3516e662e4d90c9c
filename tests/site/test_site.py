"""Documentation and leaderboard as one site: built with warnings as errors, every internal link leads somewhere."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from latentdd_plugin.cli.main import COMMANDS
from latentdd_plugin.core.version import __version__

ROOT = Path(__file__).parents[2]
SECTIONS = ["Start", "Guides", "Concepts", "Methods", "Reference", "Leaderboard", "Decisions", "Changelog"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    found = {path: path.read_text() for path in site.rglob("*.html")}
    assert len(found) > 50
    return found


def places(text):
    """Every address that a page refers to."""
    return [unescape(found) for found in re.findall(r'\s(?:href|src)="([^"]*)"', text)]


def test_every_internal_link_leads_somewhere(site, pages):
    anchors = {path: set(re.findall(r'\sid="([^"]+)"', text)) for path, text in pages.items()}
    broken = []
    for path, text in pages.items():
        for place in places(text):
            parts = urlsplit(place)
            if parts.scheme:
                continue
            base = site / "index.html" if path.name == "404.html" else path
            target = Path(os.path.normpath(base.parent / unquote(parts.path.lstrip("/")))) if parts.path else path
            if target.is_dir():
                target /= "index.html"
            missing = parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]
            if not target.is_file() or (missing and not parts.fragment.startswith("__")):
                broken.append(f"{path.relative_to(site)}: {place}")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(pages):
    loaded = re.compile(r'<(?:script|link|img|iframe)[^>]*\s(?:src|href)="(https?:)?//')
    assert [path for path, text in pages.items() if loaded.search(text)] == []


def test_the_sections_are_on_every_page_and_on_the_tables(site, pages):
    for name in ("index.html", "concepts/budget.html", "leaderboard/index.html"):
        for section in SECTIONS:
            assert re.search(rf">\s*{section}\s*<", pages[site / name]), (name, section)


def test_the_reference_holds_every_command_and_the_version(site, pages):
    text = pages[site / "reference" / "cli.html"]
    assert [command for command in COMMANDS if f">dd-bench {command}<" not in text] == []
    assert f"latentdd-plugin {__version__}" in text
