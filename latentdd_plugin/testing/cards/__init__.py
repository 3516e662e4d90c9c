"""Measure cards of codecs and distillers: figures to compare, as JSON and as a page."""
