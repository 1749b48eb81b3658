"""`python -m tensorhub`: the same as the command `tensorhub`."""

import sys

from tensorhub.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
