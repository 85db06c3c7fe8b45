from __future__ import annotations

from pathlib import Path

import pytest

from schema_change.core.changes.load import load_change
from schema_change.core.errors import ChangeFileError
from schema_change.core.surroundings.models import Surroundings

HEAD = """\
description: A test
conn_id: weather
operations:
  - add_column: {table: t, column: {name: a, type: integer}}
"""
EVERYTHING = """\
window: {from: 22:00, to: 04:00, timezone: Europe/Berlin, outside: refuse}
blackouts:
  - {from: 2024-12-20, to: 2025-01-06, reason: holidays}
hooks:
  before_migrate:
    - {run: [docker, compose, -f, /srv/shop.yaml, stop, api], env: [DOCKER_HOST], timeout_s: 60}
  after_cutover:
    - http:
        {method: POST, url: "https://ci.example/x", headers: {Authorization: "Bearer ${CI_TOKEN}"}, json: {tag: v2}}
health:
  - {url: "http://localhost:8000/health", status: 200, json_schema: {required: [status]}, latency_ms: 500}
prometheus:
  - {url: "http://localhost:9090", query: "sum(rate(api_errors_total[5m])) or vector(0)", max: 0.5}
sentinels:
  - {name: by station, query: "SELECT * FROM t WHERE a = 1", critical: true}
soak: {hours: 48}
backfill_dag: {dag_id: compute, conf: {year: 2024}}
follow_ups:
  - {name: index is used, after_hours: 24, index_usage: {index: public.t_a, min_scans: 10}}
  - {name: rows have it, after_hours: 1, no_rows: "SELECT id FROM t WHERE a IS NULL"}
"""


def write(root: Path, text: str, name: str = "001_a") -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "change.yaml").write_text(HEAD + text, encoding="utf-8")
    return folder


def test_what_lies_around_survives_the_journal(tmp_path: Path) -> None:
    change = load_change(write(tmp_path, EVERYTHING))
    stored = change.canonical()
    assert Surroundings.of(stored) == change.surroundings
    assert stored["hooks"]["after_cutover"][0]["http"]["json"] == {"tag": "v2"}
    assert stored["window"]["outside"] == "refuse"
    assert "${CI_TOKEN}" in str(stored)


def test_a_change_without_surroundings_says_nothing_of_them(tmp_path: Path) -> None:
    assert not set(Surroundings.model_fields) & set(load_change(write(tmp_path, "")).canonical())


def test_the_checksum_is_about_the_database_only_but_a_run_sees_every_edit(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    plain, other = load_change(write(tmp_path / "one", "")), load_change(write(tmp_path / "two", EVERYTHING))
    assert other.checksum == plain.checksum
    assert other.files_sha256 != plain.files_sha256


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("hooks: {before_migrat: []}", 5, "hooks.before_migrat", "not known\n  → did you mean before_migrate?"),
        ("hooks:\n  after_migrate:\n    - {timeout_s: 3}", 7, "hooks.after_migrate[0]", "either run or http"),
        ("hooks:\n  after_migrate:\n    - {run: []}", 7, "hooks.after_migrate[0].run", "must not be empty"),
        ("hooks:\n  after_migrate:\n    - {run: ls}", 7, "hooks.after_migrate[0].run", "expected a list"),
        ("hooks:\n  after_migrate:\n    - {run: [./x.sh]}", 7, "hooks.after_migrate[0].run", "relative"),
        ("hooks:\n  after_migrate:\n    - {run: [x], env: [A=b]}", 7, "hooks.after_migrate[0].env", "found 'A=b'"),
        (
            "hooks:\n  after_migrate:\n    - {http: {url: 'http://x'}, timeout_s: 1}",
            7,
            "hooks.after_migrate[0]",
            "timeout_s of its own",
        ),
        ("health: [{url: localhost}]", 5, "health[0].url", "starts with http://"),
        ("health: [{url: 'http://ann:pw@x/'}]", 5, "health[0].url", "holds no user or password"),
        ("health: [{url: 'http://x', headers: {Authorization: t0p}}]", 5, "health[0].headers", "from the environment"),
        ("health: [{url: 'http://x', json_schema: {type: strin}}]", 5, "health[0].json_schema", "not a JSON Schema"),
        ("prometheus: [{url: 'http://x', query: up}]", 5, "prometheus[0]", "add max or min"),
        ("sentinels: [{name: a, query: DELETE FROM t}]", 5, "sentinels[0].query", "one SELECT"),
        ("sentinels: [{name: a, query: SELECT 1; SELECT 2}]", 5, "sentinels[0].query", "one SELECT"),
        (
            "sentinels: [{name: a, query: WITH x AS (DELETE FROM t RETURNING 1) SELECT 1 FROM x}]",
            5,
            "sentinels[0].query",
            "writes nothing",
        ),
        ("sentinels: [{name: a, query: SELECT FROM WHERE}]", 5, "sentinels[0].query", "syntax error"),
        ("sentinels: [{name: a, query: SELECT 1, max_ms: 3}]", 5, "sentinels[0]", "needs analyze: true"),
        ("soak: {}", 5, "soak.hours", "required"),
        ("soak: {hours: 0}", 5, "soak.hours", "greater than 0"),
        ("blackouts: [{from: Xmas, to: 2025-01-06, reason: x}]", 5, "blackouts[0]", "found 'Xmas'"),
        ("blackouts: [{from: 2025-01-07, to: 2025-01-06, reason: x}]", 5, "blackouts[0]", "must be after from"),
        ("follow_ups: [{name: a, after_hours: 1}]", 5, "follow_ups[0]", "either index_usage or no_rows"),
        (
            "sentinels: [{name: a, query: SELECT 1}, {name: a, query: SELECT 2}]",
            1,
            None,
            "two of the sentinels have the same name",
        ),
        ("backfill_dag: {conf: {}}", 5, "backfill_dag.dag_id", "required"),
    ],
)
def test_what_makes_no_sense_is_refused_on_its_line(
    tmp_path: Path, text: str, line: int, key: str | None, message: str
) -> None:
    with pytest.raises(ChangeFileError) as caught:
        load_change(write(tmp_path, text + "\n"))
    assert (caught.value.line, caught.value.key) == (line, key)
    assert message in str(caught.value)
