"""Distillers, one file per method, named as its paper names it. `base` holds the contract, `loop` the optimisation."""
