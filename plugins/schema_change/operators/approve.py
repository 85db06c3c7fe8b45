"""Ask a person: one request per role the plan needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException

from schema_change.core.changes.procedures import Procedure
from schema_change.core.changes.spec import Change
from schema_change.core.planning.risk import unrated
from schema_change.core.stages.runner import Runner
from schema_change.operators.outcome import task_errors
from schema_change.operators.request import build_request, change_of

APPROVE, REJECT = "Approve", "Reject"


class ApproveOperator(HITLOperator):
    """Show the migration guide and wait, without a worker, until somebody of the role approves or rejects.

    An answer that does not come in time is a rejection. ``users`` may answer; empty means everybody whom Airflow lets
    answer. Who asked for the run may not approve it.
    """

    def __init__(
        self,
        *,
        change: Change | Procedure,
        role: str,
        users: Sequence[str] = (),
        reason: str = "",
        response_timeout: timedelta = timedelta(days=3),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            subject=f"Approve {change.id if isinstance(change, Change) else change.title}",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            response_timeout=response_timeout,
            **kwargs,
        )
        # The form of the answer; a mapped operator would otherwise show the params of the DAG in it.
        self.params = ParamsDict({"comment": Param(None, type=["null", "string"], title="Comment", maxLength=1000)})
        self.change = change
        self.role = role
        self.users = users
        self.reason = reason

    def execute(self, context: Context) -> Any:
        """Put the question, unless it was answered in an earlier try."""
        if self.role not in {approval.role for approval in self._runner(context).approvals()}:
            self.log.info("approved as %s by an earlier try of this task", self.role)
            return None
        requester = context["dag_run"].triggering_user_name
        users = [user for user in self.users if user != requester]
        if self.users and not users:
            raise AirflowFailException(
                f"only {requester} may approve as {self.role}, who asked for this run\n"
                "  → add another user to the role, or let somebody else trigger the run"
            )
        guide = context["ti"].xcom_pull(task_ids="plan", key="guide", map_indexes=-1)
        self.subject = f"Approve {change_of(self.change, context).id} as {self.role}"
        self.body = f"**{self.role}**: {unrated(self.reason)}\n\n{guide or ''}"
        self.assigned_users = [{"id": user, "name": user} for user in users]
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """Record the answer in the journal. A rejection, or an approval that is not allowed, ends the run."""
        answer = super().execute_complete(context, event)
        said = {
            "role": self.role,
            # The name, as a DAG run knows who triggered it; the id is a number under some auth managers.
            "user": (answer["responded_by_user"] or {}).get("name", ""),
            "comment": answer["params_input"].get("comment") or "",
        }
        runner = self._runner(context)
        with task_errors():
            if answer["chosen_options"] != [APPROVE]:
                runner.record_rejection(**said)
            runner.record_approval(**said)
            if not runner.approvals():
                runner.run("approve")
        return said

    def _runner(self, context: Context) -> Runner:
        return Runner(build_request(self.change, context), progress=partial(self.log.info, "%s"))
