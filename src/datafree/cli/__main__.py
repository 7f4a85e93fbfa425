"""`python -m datafree.cli`."""

import sys

from datafree.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
