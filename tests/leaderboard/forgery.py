"""Ways to forge a claim: changes of its record, and the reasons for which it is refused."""

import json

from latentdd_plugin.cli import main
from latentdd_plugin.core.types import Score
from latentdd_plugin.leaderboard.records import FAILED
from latentdd_plugin.leaderboard.verify import verify
from latentdd_plugin.results.statistics import gains, summarise


def called(*words):
    return main.main([str(word) for word in words])


def edit(path, change):
    """Apply a function to the record of a claim, and write it."""
    tree = json.loads(path.read_text())
    change(tree["record"])
    path.write_text(json.dumps(tree))


def reasons(path, level="static"):
    """Return why verification refuses a claim; empty if it does not."""
    check = verify(path, level)
    assert (check.result == FAILED) == bool(check.why)
    return "\n".join(check.why)


def as_json(found):
    return {name: one.to_json() for name, one in found.items()}


def agreeing(record):
    """Make summaries and gains follow from the rows."""
    own = [Score.from_json(row) for row in record["scores"]]
    record["summary"] = as_json(summarise(own))
    for baseline in record["controls"].values():
        rows = [Score.from_json(row) for row in baseline["scores"]]
        baseline |= {"summary": as_json(summarise(rows)), "gain": as_json(gains(own, rows))}
