"""`python -m latentdd_plugin` is `dd-bench`."""

import sys

from latentdd_plugin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
