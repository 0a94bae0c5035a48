"""Airflow's human-in-the-loop task, asking what the store says is to be asked and recording the answer there.

Nothing is left to Airflow's own memory of the answer: a task marked successful or a forged XCom leaves the store as it
is, and the next task reads the store. Waiting takes no worker. A time-out escalates; there is no default answer.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

APPROVE, REJECT = "Approve", "Reject"


class BatchApproval(HITLOperator):  # type: ignore[misc]  # Airflow has no types here
    """Asks about the batch `params.batch_id` if it waits for a decision; its id, where it may be posted.

    Only those who may decide can answer in Airflow; an answer that the store refuses all the same (a preparer's, where
    no approvers are configured) is audited and the question is put again.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {
            "params": {"comment": Param("", type=["null", "string"], title="Comment; a rejection needs its reason")},
            "execution_timeout": None,  # the wait has its own end; the task's would be taken for it
        }
        super().__init__(subject="", options=[APPROVE, REJECT], **kwargs)

    def execute(self, context: Any) -> str:
        """Put the question and wait; without one, go on at once."""
        from tieout.orchestration import approval, posting

        work, batch_id = _work(), context["params"]["batch_id"]
        asked = approval.question(work, batch_id)
        if asked is None:
            return str(posting.check_approval(work, batch_id))
        self.subject, self.body = asked.subject, asked.body
        self.assigned_users = [{"id": user, "name": name} for user, name in asked.may_answer]
        self.response_timeout = asked.expires_at - work.store.now()
        approval.ask(work, asked, _run(context))
        who = ", ".join(asked.names) or "an approver"
        _tell(f"{batch_id} waits for the decision of {who}: {self.generate_link_to_ui_from_context(context=context)}")
        return str(super().execute(context))

    def execute_complete(self, context: Any, event: dict[str, Any]) -> str:
        """Record the answer, or that there was none."""
        from tieout.errors import LedgerError
        from tieout.orchestration import approval, posting

        work, run, batch_id = _work(), _run(context), context["params"]["batch_id"]
        if "error" in event or event.get("timedout") or not event.get("responded_by_user"):
            told = approval.escalate(work, run)
            _tell(told)
            raise LedgerError(
                told, remedy="decide: it is asked again by the next run, or with `tieout posting approve`"
            )
        comment = (event.get("params_input") or {}).get("comment") or ""
        accept = event["chosen_options"] == [APPROVE]
        try:
            state = approval.answer(work, run, who=event["responded_by_user"]["name"], accept=accept, comment=comment)
        except LedgerError as error:
            self.log.error("the answer does not count: %s", error)
            return self.execute(context)  # the question is put again
        if state == "rejected_by_approver":
            raise AirflowSkipException(f"{batch_id} was rejected: {comment}")
        return str(posting.check_approval(work, batch_id))


def _work() -> Any:
    from tieout.orchestration.connections import airflow_connection
    from tieout.orchestration.work import Work

    return Work.from_env(connect=airflow_connection)


def _run(context: Any) -> str:
    return f"{context['dag'].dag_id}.{context['dag_run'].run_id}"


def _tell(text: str) -> None:
    from tieout.orchestration.connections import optional_connection
    from tieout.orchestration.notifications import CONNECTION, tell

    tell(optional_connection(CONNECTION), text)
