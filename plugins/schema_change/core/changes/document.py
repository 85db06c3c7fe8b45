"""Read YAML as JSON data that knows its lines.

Deliberately less than YAML: only ``true``/``false`` are booleans (``on``, ``no``, ``12:30``, ``2024-02-08`` and ``007``
stay text, as YAML 1.2 has it), keys are always text, and duplicate keys, anchors and tags are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from schema_change.core.errors import ChangeFileError

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML built without libyaml: the same, slower
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
KeyPath: TypeAlias = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_MAX_DEPTH = 50
_LONG = 4_000


class _Loader(_Base):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's own protocol


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), _first)


def _number(text: str) -> Json:
    number = float(text)
    return number if math.isfinite(number) else text  # JSON knows no infinity


_SCALARS: dict[str, Callable[[str], Json]] = {
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": lambda text: text.lower() == "true",
    f"{_TAG}int": int,
    f"{_TAG}float": _number,
    f"{_TAG}str": str,
}


@dataclass(frozen=True, slots=True)
class Document:
    """The data of a file, and the line (from 1) on which each key or list item starts."""

    file: str
    data: dict[str, Json]
    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str, file: str) -> Document:
    """Parse the text of a file whose top is a mapping. Raises ChangeFileError with the line."""
    try:
        if len(text) > _LONG:
            _check_depth(text, file)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else None
        raise ChangeFileError("a control character is not allowed in YAML", file=file, line=line) from error
    if node is None:
        raise ChangeFileError("the file is empty", file=file, line=1, hint="start with description: and conn_id:")
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "plain text"
        raise ChangeFileError(
            f"the file is {found}, expected keys with values",
            file=file,
            line=node.start_mark.line + 1,
            hint="start with description: and conn_id:",
        )
    builder = _Builder(file)
    data = builder.mapping(node, ())
    return Document(file, data, builder.lines)


def _check_depth(text: str, file: str) -> None:
    """Refuse deep nesting while streaming: composing it would overflow libyaml's C stack and end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise ChangeFileError(
                "nested too deeply",
                file=file,
                line=(event.start_mark.line if event.start_mark else 0) + 1,
                hint=f"at most {_MAX_DEPTH} levels",
            )


class _Builder:
    """Turn YAML nodes into JSON data and note the line of every key."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {(): 1}
        self._seen: set[int] = set()

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Json]:
        data: dict[str, Json] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a word", line, path)
            key = key_node.value
            if key in data:
                first = self.lines[(*path, key)]
                raise self._error(
                    f"the key is there twice, first on line {first}", line, (*path, key), "keep one of them"
                )
            self.lines[(*path, key)] = line
            data[key] = self.value(value_node, (*path, key))
        return data

    def value(self, node: yaml.Node, path: KeyPath) -> Json:
        line = node.start_mark.line + 1
        if id(node) in self._seen:
            raise self._error("anchors and aliases are not read", line, path, "write the value out")
        self._seen.add(id(node))
        if len(path) > _MAX_DEPTH:
            raise self._error("nested too deeply", line, path, f"at most {_MAX_DEPTH} levels")
        if not node.tag.startswith(_TAG) or "/" in node.tag:
            raise self._error(f"the tag {node.tag} is not read", line, path, "leave the tag out")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _item(self, node: yaml.Node, path: KeyPath) -> Json:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Json:
        text: str = node.value
        line = node.start_mark.line + 1
        if "\0" in text:
            raise self._error("a NUL character is not allowed", line, path)
        convert = _SCALARS.get(node.tag)
        if convert is None:
            raise self._error(f"the tag {node.tag} is not read", line, path, "leave the tag out")
        try:
            return convert(text)
        except ValueError:  # only an explicit tag can get here, such as !!int x
            raise self._error(f"{text!r} does not fit its tag", line, path, "leave the tag out") from None

    def _error(self, message: str, line: int, path: KeyPath, hint: str | None = None) -> ChangeFileError:
        return ChangeFileError(message, file=self.file, line=line, key=dotted(path) or None, hint=hint)


def dotted(path: KeyPath) -> str:
    """Return a key path as people read it, such as ``operations[0].add_column.table``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> ChangeFileError:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines() or [""]
    line = min(mark.line + 1, len(lines)) if mark else None
    current = lines[line - 1] if line else ""
    indentation = current[: len(current) - len(current.lstrip())]
    problem = str(error.problem or error)
    if "\t" in indentation or "'\\t'" in problem:
        return ChangeFileError("a tab is used for indentation", file=file, line=line, hint="indent with spaces")
    if "expected a single document" in str(error) or "another document" in problem:
        return ChangeFileError("a second YAML document starts", file=file, line=line, hint="one change per file")
    context = f"{error.context}: " if error.context else ""
    hint = None
    if "mapping values are not allowed" in problem:
        hint = "check the indentation; text that contains ': ' goes in quotes, or in a block after |"
    elif "alias" in context + problem or "cannot start any token" in problem:
        hint = "put text that starts with a special character (* & % @ ` !) in quotes, or in a block after |"
    elif "expected <block end>" in problem or "could not find expected ':'" in problem:
        hint = "check the indentation of this line and the one before"
    return ChangeFileError(f"not valid YAML: {context}{problem}", file=file, line=line, hint=hint)
