"""Who must approve: by risk, by role; nobody approves a change they asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from schema_change.core.errors import ConfigurationError, PreCheckFailed
from schema_change.core.model import Plan, Risk

DATABASE_ADMINISTRATOR = "database_administrator"
LEAD_DEVELOPER = "lead_developer"
PRODUCT_OWNER = "product_owner"
ROLES = (DATABASE_ADMINISTRATOR, LEAD_DEVELOPER, PRODUCT_OWNER)

_BY_RISK: dict[Risk, tuple[str, ...]] = {
    Risk.LOW: (),
    Risk.MEDIUM: (DATABASE_ADMINISTRATOR,),
    Risk.HIGH: (DATABASE_ADMINISTRATOR, LEAD_DEVELOPER),
}


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval a run needs; ``users`` empty means anybody but the person who asked for the run."""

    role: str
    users: tuple[str, ...]
    reason: str


def load_approvers(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the policy file: a mapping from each role to a list of user names."""
    if not path.exists():
        return {}
    data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    valid = isinstance(data, dict) and all(
        role in ROLES and isinstance(users, list) and all(isinstance(u, str) for u in users)
        for role, users in data.items()
    )
    if not valid:
        raise ConfigurationError(
            f"{path} is not a mapping from roles to lists of users", hint=f"the roles are {', '.join(ROLES)}"
        )
    return {role: tuple(users) for role, users in data.items()}


def required(plan: Plan, approvers: Mapping[str, tuple[str, ...]], only: tuple[str, ...] = ()) -> tuple[Approval, ...]:
    """Return the approvals a plan needs. ``only`` narrows whom to ask; it never adds anybody to the policy's users."""
    roles = _BY_RISK[plan.risk] + ((PRODUCT_OWNER,) if plan.data_migration else ())
    needed = []
    for role in roles:
        allowed = approvers.get(role, ())
        users = tuple(u for u in only if not allowed or u in allowed) if only else allowed
        if only and not users:
            raise PreCheckFailed(
                f"none of {', '.join(only)} may approve as {role}", hint=f"the policy names {', '.join(allowed)}"
            )
        needed.append(Approval(role, users, plan.risk_reasons[0]))
    return tuple(needed)


def check_approver(approval: Approval, user: str, requested_by: str) -> None:
    """Raise PreCheckFailed when this user may not give this approval."""
    if not user:
        raise PreCheckFailed("an approval needs a name", hint="log in, so that the audit can say who approved")
    if user == requested_by:
        raise PreCheckFailed(f"{user} asked for this run and cannot approve it", hint="ask somebody else")
    if not requested_by and not approval.users:
        raise PreCheckFailed(
            f"nobody knows who asked for this run, so that anybody could approve their own as {approval.role}",
            hint="name the users of the role in the approvers file",
        )
    if approval.users and user not in approval.users:
        raise PreCheckFailed(
            f"{user} may not approve as {approval.role}",
            hint=f"ask one of {', '.join(approval.users)}",
        )
