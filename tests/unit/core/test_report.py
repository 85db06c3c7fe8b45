from __future__ import annotations

from copy import deepcopy
from typing import Any

from schema_change.core.report import render_report, report_text

REPORT: dict[str, Any] = {
    "run_id": "11111111-2222-3333-4444-555555555555",
    "change": {"id": "001_test", "description": "a <b>test</b>", "checksum": "c0ffee"},
    "conn_id": "weather",
    "status": "applied",
    "answer": "The change landed",
    "landed": True,
    "reason": "",
    "requested_by": "ann",
    "requested_from": "cli:host:1:2",
    "options": {},
    "risk": "low",
    "started_at": "2024-02-08T14:30:02+00:00",
    "finished_at": "2024-02-08T14:31:02+00:00",
    "seconds": 60.0,
    "version": "readings v1.0.0 → v1.1.0",
    "fingerprint_before": "aaaa",
    "fingerprint_after": "bbbb",
    "proof": ["12 expectations hold"],
    "stages": [
        {
            "stage": "migrate",
            "status": "done",
            "tries": 1,
            "summary": "1 steps",
            "hint": None,
            "started_at": "2024-02-08T14:30:02+00:00",
            "seconds": 0.25,
        }
    ],
    "steps": [
        {
            "seq": 1,
            "phase": "backfill",
            "title": "fill readings.x",
            "lock": "ROW EXCLUSIVE",
            "status": "done",
            "rows": 12345,
            "lock_attempts": 2,
            "error": None,
            "seconds": 3.0,
            "statements": ["UPDATE readings SET x = '<script>'"],
            "undone_at": None,
        }
    ],
    "point_of_no_return": None,
    "approvals": [{"role": "database_administrator", "user": "dba", "at": "2024-02-08", "comment": "ok"}],
    "checks": [{"name": "disk", "status": "warn", "message": "20 % free", "remedy": "make room"}],
    "findings": [],
    "backup": {"rows": 5000, "tables": ["public.readings"], "bytes": 999, "taken_at": "now", "folder": "/backup"},
    "rehearsal": None,
    "counts": [
        {
            "title": "values <of> a",
            "notes": "",
            "columns": ["tenant", "rows"],
            "rows": [["landb", 4321], ["bistro", None]],
            "more": True,
            "error": None,
        },
        {"title": "values of b", "notes": "why", "columns": [], "rows": [], "more": False, "error": "took too long"},
        {"title": "values of nothing", "notes": "", "columns": ["rows"], "rows": [], "more": False, "error": None},
    ],
    "around": [{"stage": "validate", "status": "warn", "what": "sentinel <by station>: cost 8 before, 95 now"}],
    "validation": [
        {
            "suite": "s",
            "table_name": "readings",
            "check_id": "no_null",
            "severity": "critical",
            "status": "passed",
            "observed": {"min": 0},
            "unexpected_count": 0,
            "element_count": 5000,
            "error": None,
        }
    ],
    "events": [{"at": "2024", "actor": "ann", "kind": "applied", "object": "", "message": "", "sql": "SELECT '<i>'"}],
}


def failed() -> dict[str, Any]:
    report = deepcopy(REPORT)
    report |= {
        "status": "rolled_back",
        "answer": "The change was rolled back",
        "landed": False,
        "reason": "validate failed: no_null",
        "proof": ["the catalog's fingerprint aaaa equals the one before"],
        "backup": None,
    }
    report["validation"][0]["status"] = "failed"
    return report


def test_the_answer_comes_first_then_why_and_the_proof() -> None:
    page = render_report(failed())
    order = ["The change was rolled back.", "validate failed", "equals the one before", "Timeline", "Validation"]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "No backup was taken" in page


def test_the_page_is_escaped_and_needs_nothing_else() -> None:
    page = render_report(REPORT)
    assert "<b>test</b>" not in page
    assert "<script>" not in page
    assert "<i>" not in page
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert "12,345" in page
    assert "validate: sentinel &lt;by station&gt;: cost 8 before, 95 now" in page


def test_counts_are_shown_or_why_there_are_none() -> None:
    page = render_report(REPORT)
    assert "<h3>values &lt;of&gt; a</h3>" in page
    assert '<td>landb</td><td class="n">4,321</td>' in page
    assert "These are the first 2." in page
    assert "took too long" in page
    assert "values of nothing" not in page


def test_the_text_for_a_terminal() -> None:
    lines = report_text(REPORT).splitlines()
    assert lines[0] == "The change landed: 001_test on weather"
    assert "approved    by dba (database_administrator)" in lines
    assert "took        60.0 s: migrate 250 ms" in lines
    assert "validation  1 of 1 expectations hold" in lines
    assert "backup      5,000 rows in /backup" in lines
    assert "version     readings v1.0.0 → v1.1.0" in lines
    assert "around      validate: sentinel <by station>: cost 8 before, 95 now" in lines
    text = report_text(failed())
    assert "reason      validate failed: no_null" in text
    assert "validation  0 of 1 expectations hold: no_null failed" in text
    assert "version" not in text
