"""`pytest --dd-bench NAME`: the contracts of a codec, algorithm or evaluator as tests, with nothing to write.

pytest imports this module at every start, so that nothing heavy is imported before the option is given.
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
        help="run the contracts of these codecs, algorithms or evaluators (codec:NAME where a name is several), "
        "and no other tests unless their paths are given",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Without paths on the command line, the contracts are all there is to collect."""
    if config.getoption("--dd-bench") and config.args_source is not config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each contract, before other plug-ins choose among them."""
    for name in str(config.getoption("--dd-bench") or "").split(","):
        if name:
            subject, contracts = _prepared(name)
            node = PlugIn.from_parent(session, name=name, nodeid=name, subject=subject, contracts=contracts)
            report = config.hook.pytest_make_collect_report(collector=node)
            config.hook.pytest_collectreport(report=report)  # the terminal counts what it is told of
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
    """One named plug-in."""

    def __init__(self, *, subject: Any, contracts: Any, **given: Any) -> None:
        super().__init__(**given)
        self.subject, self.contracts = subject, contracts

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each of its contracts."""
        for contract in self.contracts:
            yield ContractItem.from_parent(self, name=contract.__name__, subject=self.subject, contract=contract)


class ContractItem(pytest.Item):
    """One contract of one plug-in."""

    def __init__(self, *, subject: Any, contract: Any, **given: Any) -> None:
        super().__init__(**given)
        self.subject, self.contract = subject, contract

    def runtest(self) -> None:
        """Hold the plug-in to the contract."""
        self.contract(self.subject)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What broke, and the rule; the traceback only where the plug-in itself raised."""
        from latentdd_plugin.testing.contracts import ContractBroken, rule

        if isinstance(excinfo.value, ContractBroken) and excinfo.value.__cause__ is None:
            return f"{self.parent.name if self.parent else ''}: {excinfo.value}\nrule: {rule(self.contract)}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """What pytest shows beside the result."""
        return self.parent.name if self.parent else "", None, self.name


def subject_of(text: str) -> tuple[Any, Any]:
    """A plug-in under test and its contracts, from `NAME` or `codec:NAME`, `algo:NAME`, `evaluator:NAME`.

    Raises:
        UsageError: there is no such plug-in, or there are several of that name.
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
            raise UsageError(f"no codec, algorithm or evaluator is named {text!r}{near}; there are: {', '.join(known)}")
        if len(kinds) > 1:
            raise UsageError(f"{text!r} is several: say {' or '.join(f'{kind}:{text}' for kind in kinds)}")
        kind = kinds[0]
    subject, contracts = suites[kind]
    return subject(name), contracts


def _kinds_of(name: str) -> list[str]:
    """What kinds of plug-in have this name; a path's kind is told by the class it leads to."""
    from latentdd_plugin.core import plugins

    kinds = [kind for kind, group in KINDS.items() if name in plugins.entries(group)]
    if kinds or ":" not in name:
        return kinds
    from latentdd_plugin.codecs.base import Codec
    from latentdd_plugin.distillers.base import Distiller
    from latentdd_plugin.evaluators.base import Evaluator

    cls = plugins.resolve("codecs", name).cls
    return [k for k, base in zip(KINDS, (Codec, Distiller, Evaluator), strict=True) if issubclass(cls, base)]
