"""Distilled sets as files: budget, packing, the artifact itself, and other projects' formats."""
