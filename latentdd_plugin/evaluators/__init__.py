"""Evaluators, one file each. `base` holds the contract, `trial` what they read."""
