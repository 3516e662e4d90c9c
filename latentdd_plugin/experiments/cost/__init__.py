"""A model of what a run costs: seconds per stage, memory, and bytes on disk, before it begins."""
