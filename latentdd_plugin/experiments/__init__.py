"""Runs, evaluations, comparisons and suites, from a configuration to a record."""
