"""The lowest versions that are tested are those that pyproject.toml admits, and the tested versions satisfy them."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
BLOCK = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
DEPENDENCIES = [Requirement(text) for text in re.findall(r'"([^"]+)"', BLOCK[1])]


def pins(name):
    """Return the pinned version by canonical name of a constraints file."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(one.name): Version(str(one.specifier).removeprefix("==")) for one in found}


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda one: one.name)
def test_every_lower_bound_is_the_version_of_the_lowest_job(dependency):
    (bound,) = dependency.specifier
    lowest = pins("constraints-lowest.txt")[canonicalize_name(dependency.name)]
    assert bound.operator == ">="
    assert lowest == Version(bound.version)


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda one: one.name)
def test_the_tested_version_satisfies_the_bound(dependency):
    assert pins("constraints.txt")[canonicalize_name(dependency.name)] in dependency.specifier
