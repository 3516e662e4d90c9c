"""A data set by name, as images and labels."""
