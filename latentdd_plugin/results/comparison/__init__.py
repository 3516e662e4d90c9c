"""A comparison as a table, a plot and a page."""
