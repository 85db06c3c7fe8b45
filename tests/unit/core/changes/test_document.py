from __future__ import annotations

import pytest

from schema_change.core.changes.document import dotted, parse
from schema_change.core.errors import ChangeFileError


def test_only_true_false_null_and_plain_numbers_are_not_text() -> None:
    document = parse(
        "on: yes\ntime: 12:30\nday: 2024-02-08\nstation: 00433\nsix: 1_000\nhex: 0x1F\nint: -3\nfloat: 1.50\n"
        "huge: 99999999999999999999\nyes: true\nquoted: 'true'\nnothing:\n1: ~\n<<: {a: .5}\ninf: 1.0e999\n",
        "f",
    )
    assert document.data == {
        "on": "yes",
        "time": "12:30",
        "day": "2024-02-08",
        "station": "00433",
        "six": "1_000",
        "hex": "0x1F",
        "int": -3,
        "float": 1.5,
        "huge": "99999999999999999999",
        "yes": True,
        "quoted": "true",
        "nothing": None,
        "1": None,
        "<<": {"a": 0.5},
        "inf": "1.0e999",
    }


def test_every_key_and_item_has_its_line() -> None:
    document = parse("a: 1\nb:\n  - c: {d: 1,\n      e: 2}\n  - |\n    text\n    text\nf: 2\n", "f")
    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 0, "c"): 3,
        ("b", 0, "c", "d"): 3,
        ("b", 0, "c", "e"): 4,
        ("b", 1): 5,
        ("f",): 8,
    }
    assert document.line(("b", 0, "x", "y")) == 3
    assert dotted(("b", 0, "c")) == "b[0].c"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "the file is empty"),
        ("# only a comment\n", 1, "the file is empty"),
        ("- a\n", 1, "the file is a list"),
        ("text", 1, "the file is plain text"),
        ("a: 1\nb:\n\tc: 1\n", 3, "a tab is used for indentation"),
        ("a: 1\nb: 2\na: 3\n", 3, "a: the key is there twice, first on line 1"),
        ("a:\n  b: {c: 1, c: 2}\n", 2, "a.b.c: the key is there twice"),
        ("a: &x 1\nb: *x\n", 1, "anchors and aliases are not read"),
        ("a: &x [*x]\n", 1, "anchors and aliases are not read"),
        ("a: 1\nb: !!python/object/apply:os.system [true]\n", 2, "the tag tag:yaml.org,2002:python"),
        ("a: !mine b\n", 1, "the tag !mine is not read"),
        ("a: !!int x\n", 1, "'x' does not fit its tag"),
        ("a: !!binary eA==\n", 1, "is not read"),
        ("a: b: c\n", 1, "not valid YAML: mapping values are not allowed"),
        ("a: 1\nb: [1\n", 2, "not valid YAML"),
        ("a: *\n", 1, "not valid YAML"),
        ("a: 1\n---\nb: 1\n", 2, "a second YAML document starts"),
        ('a: "\\0"\n', 1, "a: a NUL character is not allowed"),
        ("a: 1\nb: \x01\n", 2, "a control character is not allowed"),
        ("? [a]\n: b\n", 1, "a key must be a word"),
    ],
)
def test_what_is_not_read_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ChangeFileError, match=r"change\.yaml:") as caught:
        parse(text, "change.yaml")
    assert caught.value.line == line
    assert message in caught.value.message


@pytest.mark.parametrize("text", ["a: " + "{a: " * 200_000, "a: " + "[" * 100_000, "a:\n" + "- " * 100_000, "- " * 900])
def test_deep_nesting_is_an_error_and_no_crash(text: str) -> None:
    with pytest.raises(ChangeFileError):
        parse(text, "f")
    with pytest.raises(ChangeFileError, match="nested too deeply"):
        parse("a: " + "[" * 60 + "]" * 60, "f")
