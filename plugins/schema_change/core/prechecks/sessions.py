"""Checks of what others do in the database right now."""

from __future__ import annotations

from dataclasses import dataclass

from schema_change.core.prechecks.model import Answer, CheckContext, Status, age, enumerate_some

#: Everybody waits a little and is idle for a moment; from here on it is worth a word.
_IDLE_S = 60
_WAIT_S = 5


@dataclass(frozen=True, slots=True)
class _Transaction:
    pid: int
    user: str
    application: str
    state: str
    age_s: float
    idle_s: float
    locked: list[str]

    @property
    def idle(self) -> bool:
        return self.state.startswith("idle in transaction")

    def __str__(self) -> str:
        who = f"session {self.pid} of {self.user}" + (f" ({self.application})" if self.application else "")
        what = f"idle for {age(self.idle_s)} in a transaction" if self.idle else "in a transaction"
        return f"{who}, {what} open for {age(self.age_s)}" + (
            f", holding {', '.join(self.locked)}" if self.locked else ""
        )


def _transactions(context: CheckContext) -> list[_Transaction]:
    rows = context.rows("sessions", "transactions", relations=context.oids)
    return [_Transaction(*row) for row in rows]


def _judge(context: CheckContext, found: list[_Transaction], clean: str) -> Answer:
    """Fail for those who hold our tables, warn of the others: a concurrent index build waits for them too."""
    if not found:
        return _seen(context, clean)
    ours = [t for t in found if t.locked]
    terminate = "; ".join(f"SELECT pg_terminate_backend({t.pid})" for t in (ours or found)[:5])
    message = "; ".join(map(str, (ours + [t for t in found if not t.locked])[:10]))
    if ours and not context.options.terminate_blockers:
        return Answer("fail", message, f"talk to its owner and wait, or: {terminate}")
    if ours:
        return Answer("warn", f"{message}; this run may terminate it")
    return Answer("warn", message, f"concurrent index builds and vacuum wait for it; if it is forgotten: {terminate}")


def _seen(context: CheckContext, clean: str) -> Answer:
    [(hidden,)] = context.rows("sessions", "hidden_sessions")
    if hidden:
        message = f"{hidden} sessions of other users are hidden from this role; of those it sees: {clean}"
        return Answer("unknown", message, "GRANT pg_monitor to it")
    return Answer("pass", clean)


def long_transactions(context: CheckContext) -> Answer:
    """Fail when a transaction older than the limit holds one of our tables."""
    limit = context.options.long_transaction_s
    old = [t for t in _transactions(context) if t.age_s > limit]
    return _judge(context, old, f"no transaction is older than {age(limit)}")


def idle_in_transaction(context: CheckContext) -> Answer:
    """Fail when a session sits idle in a transaction that holds one of our tables."""
    limit = min(_IDLE_S, context.options.long_transaction_s)
    idle = [t for t in _transactions(context) if t.idle and t.idle_s > limit]
    return _judge(context, idle, f"no session is idle in a transaction for more than {age(limit)}")


def blocking_chains(context: CheckContext) -> Answer:
    """Fail when sessions already wait for locks on our tables."""
    limit = min(_WAIT_S, context.options.long_transaction_s)
    rows = [r for r in context.rows("sessions", "waiting", relations=context.oids) if (r[1] or 0) > limit]
    if not rows:
        return Answer("pass", "nobody waits for a lock")
    texts = [
        f"session {pid} has waited {age(waited)} for {', '.join(str(b) if b else 'a prepared transaction' for b in by)}"
        + (f" on {', '.join(tables)}" if tables else "")
        for pid, waited, by, tables in rows
    ]
    heads = sorted({b for row in rows for b in row[2] if b} - {row[0] for row in rows})
    remedy = "the chain begins at " + (enumerate_some(heads) or "a prepared transaction") + "; end it first"
    return Answer("fail" if any(row[3] for row in rows) else "warn", "; ".join(texts[:10]), remedy)


def prepared_transactions(context: CheckContext) -> Answer:
    """Fail when a prepared transaction holds one of our tables; it survives sessions and restarts."""
    limit = min(_IDLE_S, context.options.long_transaction_s)
    rows = [r for r in context.rows("sessions", "prepared", relations=context.oids) if r[2] > limit]
    if not rows:
        return Answer("pass", "none that is forgotten")
    texts = [
        f"{gid!r} of {owner}, prepared {age(since)} ago" + (f", holding {', '.join(tables)}" if tables else "")
        for gid, owner, since, tables in rows
    ]
    status: Status = "fail" if any(row[3] for row in rows) else "warn"
    quoted = rows[0][0].replace("'", "''")
    return Answer(status, "; ".join(texts[:10]), f"COMMIT PREPARED '{quoted}' or ROLLBACK PREPARED '{quoted}'")


def wraparound(context: CheckContext) -> Answer:
    """Warn when an autovacuum that does not yield is at work on our tables, or is about to be."""
    rows = context.rows("sessions", "wraparound", relations=context.oids)
    if not rows:
        return Answer("pass", "no table needs freezing")
    texts = [f"{name} ({xids:,} transactions old, vacuum {'running' if busy else 'due'})" for name, xids, busy in rows]
    return Answer(
        "warn",
        f"autovacuum to prevent wraparound does not yield to our locks: {enumerate_some(texts)}",
        "; ".join(f"VACUUM (FREEZE) {row[0]}" for row in rows[:5]) + " first, or wait for it",
    )
