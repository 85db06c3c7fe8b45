from __future__ import annotations

from schema_change.core.wording import counted, sized


def test_numbers_come_with_their_noun() -> None:
    assert (counted(1, "row"), counted(0, "row"), counted(336_779, "row")) == ("1 row", "0 rows", "336,779 rows")


def test_sizes_are_for_people() -> None:
    assert [sized(n) for n in (0, 1023, 1024, 8_600_000, 5 << 30, 5 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 kB",
        "8.2 MB",
        "5.0 GB",
        "5.0 TB",
    ]
