"""Cards: what a codec or an algorithm measures, beside everyone else's, as JSON and as a page."""
