"""`python -m datafree.cli`, the same as `datafree`."""

import sys

from datafree.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
