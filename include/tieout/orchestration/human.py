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


class _Asked(HITLOperator):  # type: ignore[misc]  # Airflow has no types here
    """Puts a question of the store's, if there is one, and hands the answer to the store.

    Only those who may decide can answer in Airflow; an answer that the store refuses all the same (a preparer's, where
    no approvers are configured) is audited and the question is put again.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs |= {
            "params": {"comment": Param("", type=["null", "string"], title="Comment; a rejection needs its reason")},
            "execution_timeout": None,  # the wait has its own end; the task's would be taken for it
        }
        super().__init__(subject="", options=[APPROVE, REJECT], **kwargs)

    def question(self, work: Any, context: Any) -> Any:
        """What to ask; None if nothing is."""
        raise NotImplementedError

    def passed(self, work: Any, context: Any) -> str:
        """What the task gives once nothing is left to ask. Raises AirflowSkipException where it was rejected."""
        raise NotImplementedError

    def record(self, work: Any, context: Any, who: str, accept: bool, comment: str) -> None:
        """Keep an answer. Raises LedgerError where it cannot count."""
        raise NotImplementedError

    def unanswered(self, work: Any, context: Any) -> str:
        """Keep that nobody answered in time; what to tell people."""
        raise NotImplementedError

    def execute(self, context: Any) -> str:
        """Put the question and wait; without one, go on at once."""
        work = _work()
        asked = self.question(work, context)
        if asked is None:
            return self.passed(work, context)
        self.subject, self.body = asked.subject, asked.body
        self.assigned_users = [{"id": user, "name": name} for user, name in asked.may_answer]
        self.response_timeout = asked.expires_at - work.store.now()
        who = ", ".join(asked.names) or "an approver"
        link = self.generate_link_to_ui_from_context(context=context)
        _tell(f"{asked.about} waits for the decision of {who}: {link}")
        return str(super().execute(context))

    def execute_complete(self, context: Any, event: dict[str, Any]) -> str:
        """Record the answer, or that there was none."""
        from tieout.errors import LedgerError

        work = _work()
        if "error" in event or event.get("timedout") or not event.get("responded_by_user"):
            told = self.unanswered(work, context)
            _tell(told)
            raise LedgerError(told)
        comment = (event.get("params_input") or {}).get("comment") or ""
        accept = event["chosen_options"] == [APPROVE]
        try:
            self.record(work, context, event["responded_by_user"]["name"], accept, comment)
        except LedgerError as error:
            self.log.error("the answer does not count: %s", error)
            return self.execute(context)  # the question is put again
        return self.passed(work, context)


class BatchApproval(_Asked):
    """Asks about the batch `params.batch_id` if it waits for a decision; gives its id, where it may be posted."""

    def question(self, work: Any, context: Any) -> Any:
        """The batch as an approver sees it; that this run asks is recorded."""
        from tieout.orchestration import approval

        asked = approval.question(work, context["params"]["batch_id"])
        if asked is not None:
            approval.ask(work, asked, _run(context))
        return asked

    def passed(self, work: Any, context: Any) -> str:
        """The batch's id."""
        from tieout.orchestration import posting

        batch_id = context["params"]["batch_id"]
        if posting.state_of(work, batch_id) == "rejected_by_approver":
            raise AirflowSkipException(f"{batch_id} was rejected")
        return str(posting.check_approval(work, batch_id))

    def record(self, work: Any, context: Any, who: str, accept: bool, comment: str) -> None:
        """Approve or reject the content that was shown."""
        from tieout.orchestration import approval

        approval.answer(work, _run(context), who=who, accept=accept, comment=comment)

    def unanswered(self, work: Any, context: Any) -> str:
        """The batch has an owner now and goes on waiting; the next night asks again."""
        from tieout.orchestration import approval

        return approval.escalate(work, _run(context))


class BackfillApproval(_Asked):
    """Asks whether the differences that a posting backfill's dry run showed may be posted."""

    def question(self, work: Any, context: Any) -> Any:
        """The dry run's tables, who asked and why."""
        from tieout.orchestration import past_dates

        return past_dates.question(work, _run(context))

    def passed(self, work: Any, context: Any) -> str:
        """The run's id, where it may go on."""
        from tieout.orchestration import past_dates

        decided = past_dates.decision(work, _run(context))
        if decided is not None and not decided[0]:
            raise AirflowSkipException("the differences are not to be posted")
        return _run(context)

    def record(self, work: Any, context: Any, who: str, accept: bool, comment: str) -> None:
        """Approve or reject exactly what the dry run showed."""
        from tieout.orchestration import past_dates

        past_dates.decide(work, _run(context), who=who, accept=accept, comment=comment)

    def unanswered(self, work: Any, context: Any) -> str:
        """A backfill that nobody approves posts nothing; it is asked for again or forgotten."""
        return f"{_run(context)}: nobody decided in time, nothing was posted"


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
