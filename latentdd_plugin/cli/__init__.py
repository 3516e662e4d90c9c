"""The command line: thin commands over the package. Hydra stays here."""
