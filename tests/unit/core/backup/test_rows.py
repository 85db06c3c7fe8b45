from __future__ import annotations

import io

from schema_change.core.backup.files import CHUNK_BYTES
from schema_change.core.backup.rows import _next_copy, _rows
from schema_change.core.names import Table

SCRIPT = rb"""\restrict x
-- Data for Name: a; Type: TABLE DATA
COPY public.a (id, x) FROM stdin;
1	COPY public.b FROM stdin;
2	\\.
\.

COPY "We ird"."t.a ""(q" ("Id") FROM stdin;
7
\.
SELECT pg_catalog.setval('public.s', 1, true);
COPY public.b FROM stdin;
\.
"""


def test_only_the_rows_of_the_tables_asked_for_are_read() -> None:
    output = io.BytesIO(SCRIPT)
    wanted = [Table("We ird", 't.a "(q'), Table("public", "b")]
    assert _next_copy(output, wanted) == b'COPY "We ird"."t.a ""(q" ("Id") FROM stdin;'
    assert b"".join(_rows(output)) == b"7\n"
    assert _next_copy(output, wanted) == b"COPY public.b FROM stdin;"
    assert b"".join(_rows(output)) == b""
    assert _next_copy(output, wanted) is None


def test_rows_come_in_blocks_of_whole_lines() -> None:
    line = b"x" * (CHUNK_BYTES // 2) + b"\n"
    blocks = list(_rows(io.BytesIO(line * 5 + b"\\.\nafter\n")))
    assert [len(b) for b in blocks] == [2 * len(line), 2 * len(line), len(line)]
