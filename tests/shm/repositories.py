"""Model repositories of the tests of memory that is handed out, or grows."""

from pathlib import Path

from tests.safety.conftest import MODELS

_SEQUENCES = """
    backend: "identity"
    input [ {{ name: "INPUT0" data_type: TYPE_UINT8 dims: [ -1 ] }} ]
    output [ {{ name: "OUTPUT0" data_type: TYPE_UINT8 dims: [ -1 ] }} ]
    sequence_batching {{ {batching} }}
    instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
"""


def with_sequences(repository: Path, instances: int, batching: str = "") -> Path:
    """Put the model `identity` into a folder, and `sequences`, the same with sequences, by which a test chooses among
    the workers.
    """
    (repository / "identity").symlink_to(MODELS / "identity")
    (repository / "sequences" / "1").mkdir(parents=True)
    config = _SEQUENCES.format(instances=instances, batching=batching)
    (repository / "sequences" / "config.pbtxt").write_text(config, encoding="utf-8")
    return repository
