"""Evaluators: one file each. `base` holds the contract."""
