"""Codecs, algorithms, precisions and match spaces at one budget, in two ledgers: equal bytes, and equal count.

from latentdd_plugin.experiments.compare import Grid, compare
compare(Grid(RunConfig(), (PartSpec("dct"),), (PartSpec("dm", {"preset": "quick"}),))).table()
"""

from latentdd_plugin.experiments.compare.grid import Cell, Grid, cells
from latentdd_plugin.experiments.compare.run import compare
from latentdd_plugin.results.comparison.comparison import Comparison

__all__ = ["Cell", "Comparison", "Grid", "cells", "compare"]
