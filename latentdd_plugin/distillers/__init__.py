"""Distillers: one file a method, named as its paper names it. `base` holds the task and the contract, `loop` the loop."""
