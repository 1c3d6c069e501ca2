"""`python -m mitmgate`."""

import sys

from mitmgate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
