"""Datasets by name, as images and labels."""
