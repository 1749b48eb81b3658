import os
from pathlib import Path


class TritonPythonModel:
    """Says, as the driver of GPUs that are files does, that 4096 more bytes are in use."""

    def initialize(self, args):
        used = Path(os.environ["TENSORHUB_FAKE_USED"])
        used.write_text(str(int(used.read_text()) + 4096))

    def execute(self, requests):
        return []
