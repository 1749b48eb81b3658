"""The daemon with the fake gateway: `python -m tests.grpc.daemon [--immediate] <options of tensorhub-grpc>`."""

import sys

from tensorhub.grpc.main import main

from .fake_gateway import FakeGateway

if __name__ == "__main__":
    arguments = sys.argv[1:]
    immediate = "--immediate" in arguments
    if immediate:
        arguments.remove("--immediate")
    sys.exit(main(arguments, lambda run_dir: FakeGateway(immediate=immediate)))
