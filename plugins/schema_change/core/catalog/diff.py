"""Say in words how two snapshots of a catalog differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from schema_change.core.names import Table

_Json = Mapping[str, Any]

_KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}
#: Lists of a relation whose items have names, and the word for one of them.
_NAMED = {"columns": "column", "constraints": "constraint", "indexes": "index", "triggers": "trigger"}
#: Lists of texts, and the word for one of them.
_TEXTS = {
    "policies": "policy",
    "rules": "rule",
    "statistics": "statistics",
    "options": "option",
    "inherits": "parent",
    "grants": "grant",
    "dependants": "dependant",
}
_OTHERS = ("extensions", "objects", "server_version")


def diff(before: _Json, after: _Json) -> list[str]:
    """Return one line per difference between two ``Catalog.to_json()`` results; an empty list means equal.

    A line reads like ``public.t column c: type integer → bigint``.
    """
    relations_before = {k: v for k, v in before.items() if k not in _OTHERS}
    relations_after = {k: v for k, v in after.items() if k not in _OTHERS}
    lines = list(_items(relations_before, relations_after, lambda name, r: f"{_KINDS[r['kind']]} {name}", _relation))
    lines += _items(before.get("objects", {}), after.get("objects", {}), _name, _object)
    lines += _texts("extension", before.get("extensions", ()), after.get("extensions", ()))
    lines += _values("server", before, after, ("server_version",))
    return lines


def _items(
    before: _Json, after: _Json, label: Callable[[str, Any], str], compare: Callable[[str, Any, Any], Iterator[str]]
) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"{label(name, before[name])}: dropped"
        elif name not in before:
            yield f"{label(name, after[name])}: added"
        elif before[name] != after[name]:
            yield from compare(name, before[name], after[name])


def _relation(name: str, before: _Json, after: _Json) -> Iterator[str]:
    for key, word in _NAMED.items():
        old = {item["name"]: item for item in before[key]}
        new = {item["name"]: item for item in after[key]}
        yield from _items(_prefixed(old, f"{name} {word}"), _prefixed(new, f"{name} {word}"), _name, _part)
        common = [n for n in old if n in new]
        if common != [n for n in new if n in old]:
            yield f"{name}: order of {key} {', '.join(common)} → {', '.join(n for n in new if n in old)}"
    for key, word in _TEXTS.items():
        yield from (f"{name} {line}" for line in _texts(word, before.get(key, ()), after.get(key, ())))
    others = [k for k in after if k not in _NAMED and k not in _TEXTS and k != "table"]
    yield from _values(name, before, after, others)


def _prefixed(items: _Json, prefix: str) -> dict[str, Any]:
    return {f"{prefix} {name}": item for name, item in items.items()}


def _name(name: str, _: Any) -> str:
    return name


def _part(name: str, before: _Json, after: _Json) -> Iterator[str]:
    return _values(name, before, after, list(after))


def _object(name: str, before: str, after: str) -> Iterator[str]:
    old, new = before.splitlines(), after.splitlines()
    gone = [line.strip() for line in old if line not in new]
    come = [line.strip() for line in new if line not in old]
    if max(len(gone), len(come)) <= 3:
        yield f"{name}: {' | '.join(gone) or 'nothing'} → {' | '.join(come) or 'nothing'}"
    else:
        yield f"{name}: definition changed ({len(gone)} lines out, {len(come)} in)"


def _texts(word: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[str]:
    yield from (f"{word} removed: {_show(text)}" for text in before if text not in after)
    yield from (f"{word} added: {_show(text)}" for text in after if text not in before)


def _values(label: str, before: _Json, after: _Json, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        old, new = before.get(key), after.get(key)
        if old != new:
            yield f"{label}: {key} {_show(old)} → {_show(new)}"


def _show(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping) and value.keys() == {"schema", "name"}:
        return str(Table(value["schema"], value["name"]))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_show, value)) or "none"
    return str(value)
