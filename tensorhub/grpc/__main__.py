"""`python -m tensorhub.grpc`."""

import sys

from tensorhub.grpc.main import main

sys.exit(main())
