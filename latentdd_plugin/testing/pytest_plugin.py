"""`pytest --dd-bench NAME` runs the contracts of a codec, distiller or evaluator as tests, without a test file.

pytest imports this module at every start, so heavy packages are imported only after the option is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

KINDS = {"codec": "codecs", "algo": "algos", "evaluator": "evaluators"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--dd-bench`."""
    parser.getgroup("dd-bench").addoption(
        "--dd-bench",
        metavar="NAME[,NAME]",
        help="run the contracts of these codecs, distillers or evaluators (codec:NAME if several kinds share a name); "
        "other tests run only if their paths are given",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect nothing but the contracts if no path is given on the command line."""
    if config.getoption("--dd-bench") and config.args_source is not config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test per contract, before other pytest plug-ins select among the tests."""
    for name in str(config.getoption("--dd-bench") or "").split(","):
        if name:
            subject, contracts = _prepared(name)
            node = PlugIn.from_parent(session, name=name, nodeid=name, subject=subject, contracts=contracts)
            report = config.hook.pytest_make_collect_report(collector=node)
            config.hook.pytest_collectreport(report=report)  # the terminal reporter counts the tests of each report
            items.extend(report.result)


def _prepared(name: str) -> tuple[Any, Any]:
    from latentdd_plugin.core.errors import UsageError

    try:
        subject, contracts = subject_of(name)
        subject.prepare()
    except UsageError as error:
        raise pytest.UsageError(f"--dd-bench {name}: {error}") from None
    return subject, contracts


class PlugIn(pytest.Collector):
    """The tests of one plug-in under test."""

    def __init__(self, *, subject: Any, contracts: Any, **options: Any) -> None:
        super().__init__(**options)
        self.subject, self.contracts = subject, contracts

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one test per contract."""
        for contract in self.contracts:
            yield ContractItem.from_parent(self, name=contract.__name__, subject=self.subject, contract=contract)


class ContractItem(pytest.Item):
    """The test of one contract for one plug-in."""

    def __init__(self, *, subject: Any, contract: Any, **options: Any) -> None:
        super().__init__(**options)
        self.subject, self.contract = subject, contract

    def runtest(self) -> None:
        """Run the contract."""
        self.contract(self.subject)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the violation and the rule, or the traceback if the plug-in itself raised."""
        from latentdd_plugin.testing.contracts import ContractBroken, rule

        if isinstance(excinfo.value, ContractBroken) and excinfo.value.__cause__ is None:
            return f"{self.parent.name if self.parent else ''}: {excinfo.value}\nrule: {rule(self.contract)}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Return the plug-in's name and the contract's for pytest to show beside the result."""
        return self.parent.name if self.parent else "", None, self.name


def subject_of(text: str) -> tuple[Any, Any]:
    """Return a plug-in under test and its contracts for `NAME`, `codec:NAME`, `algo:NAME` or `evaluator:NAME`.

    Raises:
        UsageError: no plug-in has that name, or plug-ins of several kinds have it.
    """
    from latentdd_plugin import testing
    from latentdd_plugin.core import plugins
    from latentdd_plugin.core.errors import UsageError

    suites = {
        "codec": (testing.CodecSubject, testing.CODEC_CONTRACTS),
        "algo": (testing.DistillerSubject, testing.DISTILLER_CONTRACTS),
        "evaluator": (testing.EvaluatorSubject, testing.EVALUATOR_CONTRACTS),
    }
    kind, _, name = text.partition(":")
    if kind not in KINDS or not name:
        kinds, name = _kinds_of(text), text
        if not kinds:
            known = sorted({n for group in KINDS.values() for n in plugins.entries(group)})
            near = plugins.near(text, known)
            raise UsageError(f"no codec, distiller or evaluator is named {text!r}{near}; available: {', '.join(known)}")
        if len(kinds) > 1:
            raise UsageError(f"{text!r} names several plug-ins: use {' or '.join(f'{kind}:{text}' for kind in kinds)}")
        kind = kinds[0]
    subject, contracts = suites[kind]
    return subject(name), contracts


def _kinds_of(name: str) -> list[str]:
    """Return the kinds of plug-in with this name; for a path, the kind follows from the class it names."""
    from latentdd_plugin.core import plugins

    kinds = [kind for kind, group in KINDS.items() if name in plugins.entries(group)]
    if kinds or ":" not in name:
        return kinds
    from latentdd_plugin.codecs.base import Codec
    from latentdd_plugin.distillers.base import Distiller
    from latentdd_plugin.evaluators.base import Evaluator

    cls = plugins.resolve("codecs", name).cls
    return [k for k, base in zip(KINDS, (Codec, Distiller, Evaluator), strict=True) if issubclass(cls, base)]
