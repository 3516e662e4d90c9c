"""Code space: a codec made to fit an image shape, the encoded training set and its statistics."""
