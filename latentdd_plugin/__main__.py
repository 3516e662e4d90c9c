"""`python -m latentdd_plugin` is `dd-bench`."""

import sys

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # the working folder, which `python -m` puts first: nothing in it is imported by its name
    from latentdd_plugin.cli.main import main

    sys.exit(main())
