"""Distillers: one file a method, named as its paper names it. `base` holds the contract, `loop` the loop."""
