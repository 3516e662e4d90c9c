"""Contracts as plain functions: the docstring states the rule, a violation raises `ContractBroken` with the values."""

from __future__ import annotations

import functools
import json
import unittest
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from latentdd_plugin.core.plugins import parameters
from latentdd_plugin.core.types import Json

S = TypeVar("S")
Contract = Callable[[Any], None]

PASSED, BROKEN, SKIPPED = "passed", "broken", "skipped"


class ContractBroken(AssertionError):
    """Raised for a plug-in that violates a contract.

    Args:
        contract: name of the contract.
        what: description of the violation, with the values.
    """

    def __init__(self, contract: str, what: str) -> None:
        self.contract, self.what = contract, what
        super().__init__(f"contract {contract!r} is broken: {what}")


class NotApplicable(unittest.SkipTest):
    """Raised by a contract that does not apply to a plug-in, with the reason; unittest and pytest report a skip."""


class _Violation(Exception):
    """Raised by `require` inside a contract."""


@dataclass(frozen=True)
class Finding:
    """Outcome of one contract for one plug-in."""

    contract: str
    status: str  # passed | broken | skipped
    message: str = ""  # the violation, or the reason for the skip


class Subject(Protocol):
    """A plug-in under test, with everything its contracts need."""

    def prepare(self) -> None:
        """Build the objects that all contracts share; raise UsageError if the plug-in cannot be used at all."""


def contract(into: list[Contract]) -> Callable[[Callable[[S], None]], Callable[[S], None]]:
    """Register the decorated function as a contract; turn anything it raises into ContractBroken."""

    def registered(check: Callable[[S], None]) -> Callable[[S], None]:
        @functools.wraps(check)
        def checked(subject: S) -> None:
            try:
                check(subject)
            except (KeyboardInterrupt, ContractBroken, NotApplicable):
                raise
            except _Violation as violation:
                raise ContractBroken(check.__name__, str(violation)) from None
            except BaseException as error:  # a plug-in may raise anything, SystemExit included
                what = f"it raised {type(error).__name__}: {error}"
                raise ContractBroken(check.__name__, what) from error

        into.append(checked)
        return checked

    return registered


def require(condition: object, what: str) -> None:
    """Declare the running contract broken, with this description, unless the condition holds."""
    if not condition:
        raise _Violation(what)


def run_contracts(subject: Subject, contracts: Sequence[Contract]) -> list[Finding]:
    """Run every contract in order and return a finding for each, even after a violation.

    Raises:
        UsageError: the plug-in cannot be used at all, for example because weights or a required option are missing.
    """
    subject.prepare()
    return [_finding(subject, one) for one in contracts]


def _finding(subject: Subject, one: Contract) -> Finding:
    name = str(getattr(one, "__name__", one))
    try:
        one(subject)
    except ContractBroken as broken:
        return Finding(broken.contract, BROKEN, broken.what)
    except NotApplicable as reason:
        return Finding(name, SKIPPED, str(reason))
    return Finding(name, PASSED)


def rule(one: Contract) -> str:
    """Return a contract's rule: the first paragraph of its docstring on one line, without `Check that`."""
    text = " ".join((one.__doc__ or "").split("\n\n")[0].split()).removeprefix("Check that ")
    return text[:1].upper() + text[1:]


def require_options(cls: type, filled_in: Sequence[str] = ()) -> None:
    """Require a default for each constructor parameter, and no `*args` or `**kwargs` that would accept a typing error.

    Args:
        cls: the plug-in's class.
        filled_in: parameters that the package passes itself.
    """
    for parameter in parameters(cls):
        swallows = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        require(not swallows, f"{cls.__name__} accepts *{parameter.name}, so a misspelt option would go unnoticed")
        has = parameter.default is not parameter.empty or parameter.name in filled_in
        require(has, f"option {parameter.name!r} has no default")


def require_round_trip(made: Any, locations: Mapping[str, Any] | None = None) -> Any:
    """Rebuild a plug-in from its `config()` as JSON, require an equal configuration, and return the rebuilt object."""
    config: dict[str, Json] = made.config()
    kept = json.loads(json.dumps(config, allow_nan=False))
    require(kept == config, f"config() is not plain JSON: {config} comes back as {kept}")
    again = type(made)(**{**kept, **(locations or {})})
    require(again.config() == config, f"an object built from config() {config} has the config() {again.config()}")
    return again
