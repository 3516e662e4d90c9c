"""A contract is a plain function: its docstring is the rule, and it raises `ContractBroken` with the values."""

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
    """A plug-in does not keep to a contract.

    Args:
        contract: the contract's name.
        what: what broke it, with the values.
    """

    def __init__(self, contract: str, what: str) -> None:
        self.contract, self.what = contract, what
        super().__init__(f"contract {contract!r} is broken: {what}")


class NotApplicable(unittest.SkipTest):
    """The contract asks nothing of this plug-in; the text says why. unittest and pytest show the test as skipped."""


class _Fault(Exception):
    """What `require` raises within a contract."""


@dataclass(frozen=True)
class Finding:
    """What one contract said of one plug-in."""

    contract: str
    status: str  # passed | broken | skipped
    message: str = ""  # what broke it, or why it was skipped


class Subject(Protocol):
    """A plug-in under test, with what its contracts need to try it."""

    def prepare(self) -> None:
        """Make what every contract needs; UsageError where the plug-in cannot be used at all."""


def contract(into: list[Contract]) -> Callable[[Callable[[S], None]], Callable[[S], None]]:
    """Put the decorated function among these contracts. Whatever it raises, ContractBroken comes out."""

    def registered(check: Callable[[S], None]) -> Callable[[S], None]:
        @functools.wraps(check)
        def checked(subject: S) -> None:
            try:
                check(subject)
            except (KeyboardInterrupt, ContractBroken, NotApplicable):
                raise
            except _Fault as fault:
                raise ContractBroken(check.__name__, str(fault)) from None
            except BaseException as error:  # a plug-in may raise anything, SystemExit included
                what = f"it raised {type(error).__name__}: {error}"
                raise ContractBroken(check.__name__, what) from error

        into.append(checked)
        return checked

    return registered


def require(condition: object, what: str) -> None:
    """Within a contract: it is broken unless the condition holds."""
    if not condition:
        raise _Fault(what)


def run_contracts(subject: Subject, contracts: Sequence[Contract]) -> list[Finding]:
    """Every contract in order, whatever the others found.

    Raises:
        UsageError: the plug-in cannot be used at all: absent weights, an option that it wants.
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
    """A contract's rule: the first paragraph of its docstring, as one line."""
    return " ".join((one.__doc__ or "").split("\n\n")[0].split())


def require_options(cls: type, filled_in: Sequence[str] = ()) -> None:
    """Each of the constructor's parameters has a default, and none swallows misspelt ones.

    Args:
        cls: the plug-in's class.
        filled_in: parameters that the package gives.
    """
    for parameter in parameters(cls):
        swallows = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        require(not swallows, f"{cls.__name__} takes *{parameter.name}: a misspelt option would go unnoticed")
        has = parameter.default is not parameter.empty or parameter.name in filled_in
        require(has, f"option {parameter.name!r} has no default")


def require_round_trip(made: Any, locations: Mapping[str, Any] | None = None) -> Any:
    """The same class made again from `config()` as JSON, with an equal configuration; returned."""
    config: dict[str, Json] = made.config()
    kept = json.loads(json.dumps(config, allow_nan=False))
    require(kept == config, f"config() is not plain JSON: {config} comes back as {kept}")
    again = type(made)(**{**kept, **(locations or {})})
    require(again.config() == config, f"config() {config} makes an object whose config() is {again.config()}")
    return again
