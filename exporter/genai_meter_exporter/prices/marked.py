"""YAML with a line number for every value, and without the values that money must not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import yaml

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a file, said so that it can be found."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


@dataclass(slots=True)
class Marked:
    """Plain data and where each part of it stands."""

    file: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict[Path, int])
    problems: list[Problem] = field(default_factory=list[Problem])

    def line(self, path: Path) -> int:
        """The line of a value, or of the nearest part around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, message: str) -> None:
        """Note something wrong at a path."""
        self.problems.append(Problem(self.file, self.line(path), dotted(path), message))


def dotted(path: Path) -> str:
    """`entries[2].rates.input`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(document)"


def read(text: str, file: str) -> Marked:
    """Parse YAML; floats, duplicate keys and foreign tags are problems."""
    marked = Marked(file)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        marked.problems.append(Problem(file, 1, "(document)", f"no YAML: {str(error).partition(chr(10))[0]}"))
        return marked
    try:
        node = loader.get_single_node()
        marked.data = _value(loader, node, (), marked) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"no YAML: {error.problem or error.context}"
        marked.problems.append(Problem(file, mark.line + 1 if mark else 1, "(document)", message))
    except (yaml.YAMLError, RecursionError) as error:
        marked.problems.append(Problem(file, 1, "(document)", f"no YAML: {type(error).__name__}"))
    finally:
        loader.dispose()
    return marked


def _value(loader: yaml.SafeLoader, node: yaml.Node, path: Path, marked: Marked) -> Any:
    marked.lines.setdefault(path, node.start_mark.line + 1)
    if not node.tag.startswith("tag:yaml.org,2002:") or ":python/" in node.tag:
        marked.problem(path, f"the tag {node.tag} is not allowed")
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, marked)
    if isinstance(node, yaml.SequenceNode):
        items: list[yaml.Node] = node.value
        return [_value(loader, item, (*path, index), marked) for index, item in enumerate(items)]
    return _scalar(loader, node, path, marked)


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path, marked: Marked) -> dict[str, Any]:
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    repeated = sorted({key for key in keys if keys.count(key) > 1 and key != "<<"})
    loader.flatten_mapping(node)
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        marked.lines[(*path, key)] = key_node.start_mark.line + 1
        data[key] = _value(loader, value_node, (*path, key), marked)
    for key in repeated:
        marked.problem((*path, key), "given twice")
    return data


def _scalar(loader: yaml.SafeLoader, node: yaml.Node, path: Path, marked: Marked) -> Any:
    kind = node.tag.rpartition(":")[2]
    if kind == "str":
        return str(node.value)
    if kind == "null":
        return None
    try:
        if kind == "bool":
            return bool(loader.construct_yaml_bool(node))  # pyright: ignore[reportArgumentType]
        if kind == "int":
            return int(loader.construct_yaml_int(node))  # pyright: ignore[reportArgumentType]
        if kind == "timestamp":
            return _instant(loader.construct_yaml_timestamp(node))  # pyright: ignore[reportArgumentType]
    except (ValueError, OverflowError) as error:
        # A day that there is not, an instant beyond the year 9999 in UTC, an integer of thousands of digits.
        marked.problem(path, f"{node.value[:40]}: {error}")
        return None
    if kind == "float":
        marked.problem(path, f'{node.value} is a floating-point number: write it as text, "{node.value}"')
    else:
        marked.problem(path, f"the tag {node.tag} is not allowed")
    return None


def _instant(value: date | datetime) -> str:
    """As ISO text: a date stays one, an instant is in UTC."""
    if not isinstance(value, datetime):
        return value.isoformat()
    moment = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")
