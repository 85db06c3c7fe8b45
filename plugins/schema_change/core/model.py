"""What a plan is made of: phases, lock modes, steps, backfills. Frozen, and JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Self

from pydantic_core import to_jsonable_python

from schema_change.core.names import Table


class Phase(StrEnum):
    """The four parts of a change, in the order they run."""

    EXPAND = "expand"
    BACKFILL = "backfill"
    CUTOVER = "cutover"
    CONTRACT = "contract"


class LockMode(IntEnum):
    """PostgreSQL's table lock modes, weakest first."""

    NONE = 0
    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    @property
    def sql(self) -> str:
        """Return the mode as LOCK TABLE spells it, such as ``SHARE UPDATE EXCLUSIVE``."""
        return self.name.replace("_", " ")

    @property
    def catalog(self) -> str:
        """Return the mode as pg_locks spells it, such as ``ShareUpdateExclusiveLock``."""
        return self.name.title().replace("_", "") + "Lock"

    def conflicts(self) -> tuple[LockMode, ...]:
        """Return the modes that cannot be held by another session at the same time."""
        return _CONFLICTS[self]

    @property
    def blocks(self) -> str:
        """Say what an application cannot do on the table while this lock is held."""
        if self >= LockMode.ACCESS_EXCLUSIVE:
            return "reads and writes"
        if self >= LockMode.SHARE:
            return "writes"
        return "nothing an application does"


_L = LockMode
# https://www.postgresql.org/docs/current/explicit-locking.html#TABLE-LOCK-COMPATIBILITY
_CONFLICTS: dict[LockMode, tuple[LockMode, ...]] = {
    _L.NONE: (),
    _L.ACCESS_SHARE: (_L.ACCESS_EXCLUSIVE,),
    _L.ROW_SHARE: (_L.EXCLUSIVE, _L.ACCESS_EXCLUSIVE),
    _L.ROW_EXCLUSIVE: (_L.SHARE, _L.SHARE_ROW_EXCLUSIVE, _L.EXCLUSIVE, _L.ACCESS_EXCLUSIVE),
    _L.SHARE_UPDATE_EXCLUSIVE: tuple(m for m in LockMode if m >= _L.SHARE_UPDATE_EXCLUSIVE),
    _L.SHARE: (_L.ROW_EXCLUSIVE, _L.SHARE_UPDATE_EXCLUSIVE, _L.SHARE_ROW_EXCLUSIVE, _L.EXCLUSIVE, _L.ACCESS_EXCLUSIVE),
    _L.SHARE_ROW_EXCLUSIVE: tuple(m for m in LockMode if m >= _L.ROW_EXCLUSIVE),
    _L.EXCLUSIVE: tuple(m for m in LockMode if m >= _L.ROW_SHARE),
    _L.ACCESS_EXCLUSIVE: tuple(m for m in LockMode if m >= _L.ACCESS_SHARE),
}


class Risk(StrEnum):
    """How much a change can hurt; decides who approves."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Return 0 for low, 1 for medium, 2 for high."""
        return list(Risk).index(self)


class NewRows(StrEnum):
    """Who fills rows that are written while a backfill runs."""

    TRIGGER = "trigger"
    SWEEP = "sweep"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class Batch:
    """A statement that works on the rows of one range: ``head``, then the range's predicate, then ``tail``.

    It must be idempotent and leave the rows it has worked on no longer pending. ``drain`` takes it back when the step
    is undone: a statement in two parts with the number of rows between them, repeated until its first column, the
    rows looked at, is 0; the second is the rows put back.
    """

    head: str
    tail: str = ""
    drain: tuple[str, str] | None = None
    verb: str = "copied"
    """What happens to a row, such as *deleted* or *copied*; for logs and errors."""
    at_once: int = 0
    """Each row stands for work of its own, so that so many make a batch, whatever they take; 0 for plain rows."""
    wait_for: str | None = None
    """A query of a reason to wait, or NULL; asked about every second."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(**{**data, "drain": tuple(data["drain"]) if data["drain"] else None})


@dataclass(frozen=True, slots=True)
class Backfill:
    """One column to fill, or with ``batch`` rows to delete or copy, batch by batch along a table's key.

    ``expression`` is SQL over the row; the row is visible under the table's name. ``pending`` is the predicate
    of rows still to fill; it keeps a batch from overwriting what the application wrote. ``key`` are the columns that
    identify a row, empty when there are none (then pages are walked). With ``remember`` the keys
    of the rows we filled are kept (in ``schema_change.filled_row``), so that an undo touches those rows only.
    """

    table: Table
    column: str
    expression: str
    pending: str
    key: tuple[str, ...] = ()
    new_rows: NewRows = NewRows.TRIGGER
    remember: bool = False
    batch: Batch | None = None
    """What to do with the pending rows instead of filling the column; ``expression`` is then ``true``."""

    @property
    def what(self) -> str:
        """Return what is worked on, for messages: the column, or the table when rows are deleted or copied."""
        return f"{self.table}.{self.column}" if self.column else str(self.table)

    @property
    def divisible(self) -> bool:
        """Tell whether key ranges may be filled side by side: not what batches copy or move, which meets elsewhere."""
        return bool(self.key) and (self.batch is None or self.batch.at_once > 0)

    @property
    def verb(self) -> str:
        """Return what happens to a row: *filled*, unless a batch says otherwise."""
        return self.batch.verb if self.batch else "filled"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(
            **{
                **data,
                "table": Table(**data["table"]),
                "batch": Batch.from_json(data["batch"]) if data.get("batch") else None,
                "key": tuple(data["key"]),
                "new_rows": NewRows(data["new_rows"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One thing executed: statements, lock, transaction policy, already-done probe, undo.

    ``probe`` is a query of one boolean: true once the step is done. ``taken`` is one that is asked before the step
    begins: true when something else has the name of what it makes. ``transactional`` steps run their statements and
    the journal's entry in one transaction; the others (concurrent index builds) run statement by statement in
    autocommit, as *intent → work → probe → done*, with ``repair`` run first when an earlier try was interrupted.
    ``undo`` statements take the table back; ``undo_lock`` is their strongest lock. ``lasting`` tells whether the
    step's result is part of the final shape (its probe is then checked again by validate). A step with a ``backfill``
    has no statements of its own.
    """

    phase: Phase
    title: str
    tables: tuple[Table, ...]
    statements: tuple[str, ...] = ()
    lock: LockMode = LockMode.NONE
    transactional: bool = True
    probe: str | None = None
    taken: str | None = None
    repair: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    undo_lock: LockMode = LockMode.NONE
    undo_transactional: bool = True
    lasting: bool = True
    long: bool = False
    """The statement's work grows with the table (index build, validation); its lock lets the application go on."""
    backfill: Backfill | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(
            **{
                **data,
                "phase": Phase(data["phase"]),
                "tables": tuple(Table(**t) for t in data["tables"]),
                "statements": tuple(data["statements"]),
                "lock": LockMode(data["lock"]),
                "repair": tuple(data["repair"]),
                "undo": tuple(data["undo"]),
                "undo_lock": LockMode(data["undo_lock"]),
                "backfill": Backfill.from_json(data["backfill"]) if data["backfill"] else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Expectation:
    """One Great Expectations check that an operation wants afterwards, in GX's own words.

    ``type`` is the snake_case expectation type, ``kwargs`` its arguments, ``severity`` critical or warning. One that
    says that two shapes agree is checked again right before contract removes one of them: ``until_contract``.
    """

    table: Table
    type: str
    kwargs: Mapping[str, Any]
    check_id: str
    severity: str = "critical"
    notes: str = ""
    until_contract: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(**{**data, "table": Table(**data["table"])})


@dataclass(frozen=True, slots=True)
class DataCheck:
    """A count of rows that would not fit, checked before anything is touched.

    ``count`` returns one number, ``sample`` up to ten rows to show; both are read-only SQL.
    """

    name: str
    count: str
    sample: str
    remedy: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Reading:
    """A query as readers ask it, whose planned cost is compared before and after; it is never run."""

    name: str
    query: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that the report shows after the change: read-only SQL, whose columns and rows are the table's."""

    title: str
    query: str
    notes: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Retired:
    """Dropped data that is kept for a while: a table, the values of a column, or deleted rows.

    ``kept`` is the table in schema ``schema_change_retired`` that has it, ``key`` the columns that identify a row of
    ``table``, ``definition`` what is needed to bring it back (a column's type, a table's foreign keys …). With
    ``values`` in the definition, only some rows of the column have lost theirs.
    """

    kind: str
    """``table``, ``column`` or ``rows``."""
    table: Table
    kept: Table
    column: str = ""
    key: tuple[str, ...] = ()
    definition: Mapping[str, Any] = field(default_factory=dict)
    keep_days: int = 30

    @property
    def what(self) -> str:
        """Return what is gone, such as *column public.t.c*."""
        if self.kind == "rows":
            return f"rows of {self.table}"
        if self.definition.get("values"):
            return f"values of {self.table}.{self.column}"
        return f"column {self.table}.{self.column}" if self.column else f"table {self.table}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(
            **{**data, "table": Table(**data["table"]), "kept": Table(**data["kept"]), "key": tuple(data["key"])}
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of the linter: rule, what happens, why it hurts and the safe way."""

    rule: str
    level: str
    """``error`` stops the change, ``warning`` is reported."""
    message: str
    remedy: str
    statement: str = ""
    waived: str | None = None
    """The reason given in the change file, when the finding is waived there."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered steps of a change against a live catalog, and what planning found out.

    ``written`` and ``read`` are the tables whose rows the change writes, or reads in expressions; together with their
    foreign-key parents they are the scope of backup and checksums. ``scope`` are the relations whose catalog entries
    the fingerprint covers; empty means every relation of the database (raw SQL can touch anything). ``fingerprint``
    is that of the catalog planned on, restricted to the scope. ``retired`` is recorded when the change lands.
    """

    steps: tuple[Step, ...]
    expectations: tuple[Expectation, ...] = ()
    data_checks: tuple[DataCheck, ...] = ()
    written: tuple[Table, ...] = ()
    read: tuple[Table, ...] = ()
    scope: tuple[Table, ...] = ()
    findings: tuple[Finding, ...] = ()
    risk: Risk = Risk.LOW
    risk_reasons: tuple[str, ...] = ()
    data_migration: bool = False
    """Data that exists is changed or moved, so the owner of the data has a say."""
    notices: tuple[str, ...] = ()
    """What the reader of the plan must know, such as *one-way after cutover*."""
    one_way: tuple[str, ...] = ()
    """Why the change is one-way after cutover: what a later rollback could not give back. Empty when it is not."""
    retired: tuple[Retired, ...] = ()
    readings: tuple[Reading, ...] = ()
    tallies: tuple[Tally, ...] = ()
    fingerprint: str = ""

    def of_phase(self, phase: Phase) -> tuple[Step, ...]:
        """Return the steps of one phase, in order."""
        return tuple(s for s in self.steps if s.phase is phase)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(
            steps=tuple(map(Step.from_json, data["steps"])),
            expectations=tuple(map(Expectation.from_json, data["expectations"])),
            data_checks=tuple(map(DataCheck.from_json, data["data_checks"])),
            written=tuple(Table(**t) for t in data["written"]),
            read=tuple(Table(**t) for t in data["read"]),
            scope=tuple(Table(**t) for t in data["scope"]),
            findings=tuple(map(Finding.from_json, data["findings"])),
            risk=Risk(data["risk"]),
            risk_reasons=tuple(data["risk_reasons"]),
            data_migration=data["data_migration"],
            notices=tuple(data["notices"]),
            one_way=tuple(data.get("one_way", ())),
            retired=tuple(map(Retired.from_json, data.get("retired", ()))),
            readings=tuple(map(Reading.from_json, data.get("readings", ()))),
            tallies=tuple(map(Tally.from_json, data.get("tallies", ()))),
            fingerprint=data["fingerprint"],
        )


def to_json(value: Any) -> Any:
    """Return a dataclass as plain JSON data."""
    return to_jsonable_python(value)
