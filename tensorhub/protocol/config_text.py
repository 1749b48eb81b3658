"""Read a ModelConfig: `config.pbtxt` text, and the JSON of a load request's `config` parameter. Pure.

protobuf's parsers do the reading. What is added is an error that can be acted on: where (file, line, column), which
field, and, when a name is wrong, the names that would have been right.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import text_format

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import messages
from tensorhub.protocol.config_outline import outline

MAX_CONFIG_CHARACTERS = 16 * 2**20
"""Far above any real configuration; keeps a parser from being fed without end."""

_BOOLS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}
"""The words that C++'s protobuf takes for a boolean in JSON, in any case."""

_OVERRIDE = "Invalid config override: "
_TOO_LARGE = f"a configuration may have at most {MAX_CONFIG_CHARACTERS} characters"
_NO_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "([^"]*)"')
_NO_VALUE = re.compile(r'Enum type "([\w.]+)" has no value named "?([^\s"]*?)"?\.?$')
_BRACKET = re.compile(r'Expected "[],}>]"|Expected identifier or number, got []}>]')
_FIELD_NAME = re.compile(r"([A-Za-z_]\w*)\s*:")
_ENTRY = 'an entry of a map of messages is written { key: "name" value { ... } }, e.g. value { string_value: "text" }'


def parse_text(text: str, origin: str) -> Any:
    """Read the protobuf text format of an `inference.ModelConfig`.

    Args:
        origin: the file's name, as errors shall show it.

    Raises:
        InvalidArgument: the text is no ModelConfig; the message begins `origin:line:column: `.
    """
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise InvalidArgument(f"{origin}: {_TOO_LARGE}")
    config = messages.ModelConfig()
    try:
        text_format.Parse(text, config, descriptor_pool=messages.POOL)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        place = "".join(f":{number}" for number in (line, column) if number is not None)
        raise InvalidArgument(f"{origin}{place}: {_explain(error, text)}") from error
    except ValueError as error:
        # An enum's number that no int32 holds: the parser checks it too late to know where it was.
        raise InvalidArgument(f"{origin}: {error}") from error
    _check_enums(config, f"{origin}: ")
    return config


def to_text(config: Any, *, one_line: bool = False) -> str:
    """Write a message in the protobuf text format, as `parse_text` reads it."""
    text: str = text_format.MessageToString(config, as_one_line=one_line, as_utf8=True)
    return text


def parse_json(text: str) -> Any:
    """Read the JSON form of an `inference.ModelConfig`, with proto field names or lowerCamelCase ones.

    As Triton allows, enum names may be in any case, a boolean may be a word, and a list of one its only member; a
    64-bit number may be a string.

    Raises:
        InvalidArgument: the text is no JSON, or no ModelConfig; the message begins with Triton's words.
    """
    from google.protobuf import json_format  # not at the top: few loads bring JSON

    if len(text) > MAX_CONFIG_CHARACTERS:
        raise InvalidArgument(_OVERRIDE + _TOO_LARGE)
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise InvalidArgument(f"{_OVERRIDE}the JSON is nested too deeply") from error
    except ValueError as error:
        raise InvalidArgument(f"{_OVERRIDE}the JSON does not parse: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"{_OVERRIDE}Root element must be a message.")
    config = messages.ModelConfig()
    try:
        json_format.ParseDict(_checked(document, config.DESCRIPTOR, ""), config, descriptor_pool=messages.POOL)
    except json_format.ParseError as error:
        text_of_error = str(error).rstrip(".").replace(" at ModelConfig.", " at ")
        raise InvalidArgument(f"{_OVERRIDE}{text_of_error}.") from error
    _check_enums(config, _OVERRIDE)
    return config


def _explain(error: text_format.ParseError, text: str) -> str:
    """Put protobuf's complaint without its copy of the line, and what can be said beyond it."""
    line, column = error.GetLine(), error.GetColumn()
    message = str(error)
    if line is None or column is None:
        return message
    lines = text.split("\n")
    message = message.removeprefix(f"{line}:{column} : ").removeprefix(f"'{lines[line - 1]}': ").removeprefix("'': ")
    unknown = _NO_FIELD.search(message)
    if unknown:
        return _no_field(messages.POOL.FindMessageTypeByName(unknown[1]), unknown[2])
    before = "\n".join([*lines[: line - 1], lines[line - 1][: column - 1]])
    if _BRACKET.match(message):
        still_open = outline(before).open
        if still_open:
            mark, at = still_open[-1]
            return f'{message.rstrip(".")} (the "{mark}" of line {at.line}, column {at.column} is not closed)'
        return f"{message.rstrip('.')} (there is nothing open that it would close)"
    names = _FIELD_NAME.findall(before)
    of_field = f" (field '{names[-1]}')" if names else ""
    unknown = _NO_VALUE.search(message)
    if unknown:
        return _no_value(messages.POOL.FindEnumTypeByName(unknown[1]), unknown[2]) + of_field
    if names and names[-1] == "value" and message.startswith('Expected "{"'):
        of_field += f": {_ENTRY}"
    return message.rstrip(".") + of_field


def _no_field(descriptor: Any, name: str) -> str:
    fields = [field.name for field in descriptor.fields]
    elsewhere = sorted(path for path in _paths(messages.ModelConfig.DESCRIPTOR, "") if path.rpartition(".")[2] == name)
    near = _near(name.lower(), fields)
    if elsewhere:
        owners = [path.rpartition(".")[0] or "the model configuration" for path in elsewhere]
        hint = f"it is a field of {', '.join(owners)}"
    elif near:
        hint = f"did you mean {_quoted(near)}?"
    else:
        hint = f"fields are {', '.join(fields)}"
    return f'Message type "{descriptor.full_name}" has no field named "{name}": {hint}'


def _no_value(descriptor: Any, name: str) -> str:
    values = [value.name for value in descriptor.values]
    near = _near(name.upper(), values)
    hint = f"did you mean {_quoted(near)}?" if near else f"values are {', '.join(values)}"
    return f'Enum type "{descriptor.full_name}" has no value named "{name}": {hint}'


def _near(name: str, names: list[str]) -> list[str]:
    import difflib  # not at the top: few names are wrong

    return difflib.get_close_matches(name, names, n=3)


def _quoted(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _paths(descriptor: Any, prefix: str) -> Iterator[str]:
    """Yield the dotted path of every field; the messages of a ModelConfig do not contain themselves."""
    for field in descriptor.fields:
        path = f"{prefix}{field.name}"
        yield path
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from _paths(field.message_type, f"{path}.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; raise ValueError, as the JSON parser does, when a name comes twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"name '{next(name for name in names if names.count(name) > 1)}' appears twice in an object")
    return result


def _checked(value: dict[str, Any], descriptor: Any, path: str) -> dict[str, Any]:
    """Return the JSON object with proto field names and canonical enum names.

    Raises:
        InvalidArgument: an unknown field or enum value, or a field that appears under both its names.
    """
    by_name = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    result: dict[str, Any] = {}
    for name, item in value.items():
        field = by_name.get(name)
        if field is None:
            raise InvalidArgument(f"{_OVERRIDE}{path}{name}: Cannot find field. {_no_field(descriptor, name)}")
        if field.name in result:
            raise InvalidArgument(f"{_OVERRIDE}{path}{field.name}: the field appears twice")
        result[field.name] = _checked_field(item, field, f"{path}{field.name}")
    return result


def _checked_field(item: Any, field: Any, path: str) -> Any:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry and isinstance(item, dict):
        value_field = inner.fields_by_name["value"]
        return {key: _checked_value(value, value_field, f"{path}.{key}") for key, value in item.items()}
    if isinstance(item, list):
        return [_checked_value(value, field, f"{path}[{index}]") for index, value in enumerate(item)]
    checked = _checked_value(item, field, path)
    return checked if item is None or not field.is_repeated else [checked]


def _checked_value(item: Any, field: Any, path: str) -> Any:
    if field.message_type is not None and item is not None:
        if not isinstance(item, dict):
            raise InvalidArgument(f"{_OVERRIDE}{path}: expected {_json_kind(field)}, got {json.dumps(item)[:80]}")
        return _checked(item, field.message_type, f"{path}.")
    if field.enum_type is not None and item is not None:
        if not isinstance(item, str | int):
            raise InvalidArgument(f"{_OVERRIDE}({path}): expected the name of a value, got {json.dumps(item)[:80]}")
        if isinstance(item, int):
            return item
        if item.upper() not in field.enum_type.values_by_name:
            raise InvalidArgument(f"{_OVERRIDE}({path}): {_no_value(field.enum_type, item)}")
        return item.upper()
    if field.cpp_type == field.CPPTYPE_BOOL and isinstance(item, str):
        return _BOOLS.get(item.lower(), item)
    return item


def _json_kind(field: Any) -> str:
    return "an object of names and values" if field.message_type.GetOptions().map_entry else "an object"


def _check_enums(message: Any, where: str) -> None:
    """Refuse enum numbers that no name stands for: proto3 parsers let them through.

    Raises:
        InvalidArgument: there is one.
    """
    for field, value in message.ListFields():
        if field.enum_type is not None:
            for number in [value] if isinstance(value, int) else value:
                if number not in field.enum_type.values_by_number:
                    raise InvalidArgument(f"{where}{field.name}: {_no_value(field.enum_type, str(number))}")
        elif field.message_type is not None:
            if isinstance(value, Mapping):
                inner = list(value.values()) if field.message_type.fields_by_name["value"].message_type else []
            else:
                inner = [value] if hasattr(value, "DESCRIPTOR") else list(value)
            for item in inner:
                _check_enums(item, f"{where}{field.name}.")
