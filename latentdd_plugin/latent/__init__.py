"""The space in which codes live: a sized codec, the encoded training set and its statistics."""
