"""The leaderboard: a static site, made from a registry and from nothing else."""

from latentdd_plugin.leaderboard.site import Site, build

__all__ = ["Site", "build"]
