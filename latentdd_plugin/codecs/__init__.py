"""Codecs, one file each. `base` holds the contract; the entry points in `pyproject.toml` hold the names."""
