"""Configuration, plug-ins, randomness, compute, storage and monitoring: the base of all other folders."""
