"""Tensor vocabulary: the data types, and the arithmetic of shapes and byte sizes.

No NumPy here: the HTTP frontend and the hub need the table without the import. `workers` and `backends` map a type to
an array with `DataType.numpy_name`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

MAX_BYTE_SIZE = 2**63 - 1
"""Triton's limit for the byte size and the element count of one tensor: what an int64 holds."""


@dataclass(frozen=True, slots=True)
class _Traits:
    config_name: str
    config_number: int
    item_size: int
    struct_code: str
    numpy_name: str


class DataType(Enum):
    """A tensor's element type; the value is its name on the wire.

    `item_size` is in bytes, 0 for BYTES, whose elements vary. Multi-byte elements are little-endian on the wire.
    BF16 has no NumPy type: it is carried as uint16.
    """

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"
    BF16 = "BF16"

    item_size: int
    config_name: str
    config_number: int
    struct_code: str
    numpy_name: str

    @staticmethod
    def from_config(number: int) -> "DataType":
        """Return the type of a ModelConfig data_type number.

        Raises:
            KeyError: the number is TYPE_INVALID or unknown.
        """
        return _BY_CONFIG_NUMBER[number]


# name: (config name, config number, bytes, struct code, numpy name). The numbers are model_config.proto's.
_TRAITS: dict[str, _Traits] = {
    "BOOL": _Traits("TYPE_BOOL", 1, 1, "?", "bool"),
    "UINT8": _Traits("TYPE_UINT8", 2, 1, "B", "uint8"),
    "UINT16": _Traits("TYPE_UINT16", 3, 2, "H", "<u2"),
    "UINT32": _Traits("TYPE_UINT32", 4, 4, "I", "<u4"),
    "UINT64": _Traits("TYPE_UINT64", 5, 8, "Q", "<u8"),
    "INT8": _Traits("TYPE_INT8", 6, 1, "b", "int8"),
    "INT16": _Traits("TYPE_INT16", 7, 2, "h", "<i2"),
    "INT32": _Traits("TYPE_INT32", 8, 4, "i", "<i4"),
    "INT64": _Traits("TYPE_INT64", 9, 8, "q", "<i8"),
    "FP16": _Traits("TYPE_FP16", 10, 2, "e", "<f2"),
    "FP32": _Traits("TYPE_FP32", 11, 4, "f", "<f4"),
    "FP64": _Traits("TYPE_FP64", 12, 8, "d", "<f8"),
    "BYTES": _Traits("TYPE_STRING", 13, 0, "", "object"),
    "BF16": _Traits("TYPE_BF16", 14, 2, "H", "<u2"),
}

for _type in DataType:
    _traits = _TRAITS[_type.value]
    _type.item_size = _traits.item_size
    _type.config_name = _traits.config_name
    _type.config_number = _traits.config_number
    _type.struct_code = _traits.struct_code
    _type.numpy_name = _traits.numpy_name

_BY_CONFIG_NUMBER = {data_type.config_number: data_type for data_type in DataType}

BY_NAME: dict[str, DataType] = {data_type.value: data_type for data_type in DataType}
"""Wire name to type; a name that is not here is an invalid datatype."""


def element_count(shape: Sequence[int]) -> int:
    """Return the product of the dimensions, in unlimited integers; 1 for a scalar."""
    count = 1
    for dimension in shape:
        count *= dimension
    return count


def shape_text(shape: Sequence[int]) -> str:
    """Print a shape as Triton does in its errors: `[1,16]`, without spaces."""
    return "[" + ",".join(map(str, shape)) + "]"
