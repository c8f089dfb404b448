"""Where in a YAML file something stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml


def line_of(node: yaml.Node | None, location: Sequence[str]) -> int:
    """The line of a field's key, or of the nearest parent that is there."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if isinstance(node, yaml.SequenceNode) and part.isdecimal():
            entry: yaml.Node = node.value[int(part)]
            line, node = entry.start_mark.line + 1, entry
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == part:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line


def repeated(root: yaml.Node | None) -> tuple[int, str] | None:
    """Line and name of the first key that a mapping has twice; YAML's reader would take the last silently."""
    for node in _nodes(root, set()):
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, _ in node.value:
                if key.value in names:
                    return key.start_mark.line + 1, key.value
                names.add(key.value)
    return None


def odd(root: yaml.Node | None) -> int:
    """The line of the first scalar that YAML takes for something it cannot be, such as a day that there is not."""
    loader: Any = yaml.SafeLoader("")
    for node in _nodes(root, set()):
        if isinstance(node, yaml.ScalarNode):
            try:
                loader.construct_object(node)
            except ValueError:
                return node.start_mark.line + 1
    return 1


def _nodes(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.Node]:
    """In the order of the file, each once: an alias may lead back to where it stands."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    yield node
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _nodes(entry, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _nodes(key, seen)
            yield from _nodes(value, seen)
