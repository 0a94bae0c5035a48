"""What a report cannot vouch for is said until a later try of the same step has made it good."""

import pytest

from tieout.errors import ErpUnavailable
from tieout.orchestration import checking, posting
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store


@pytest.fixture
def work(tmp_path) -> Work:
    settings = Settings.from_env({"TIEOUT_HOME": str(tmp_path)})
    Store(settings.store).upgrade()
    made = Work(settings)
    made.store.start_run("night", "nightly")
    made.unproven("night", "Something else.")
    return made


def sentences(work: Work) -> list[str]:
    return work.store.facts("night")["unproven"]


def test_a_ledger_read_by_a_later_try_is_not_called_unread(work, monkeypatch):
    monkeypatch.setitem(work.__dict__, "definitions", [])
    checking.reconcile_ledger(work, "night", "2026-03-29", ledger_read=False)
    checking.reconcile_ledger(work, "night", "2026-03-29", ledger_read=False)
    assert sentences(work) == ["Something else.", checking.UNREAD]
    checking.reconcile_ledger(work, "night", "2026-03-29", ledger_read=True)
    assert sentences(work) == ["Something else."]


def test_an_erp_reached_by_a_later_try_is_not_called_out_of_reach(work, monkeypatch):
    down = {"erp": ErpUnavailable("the ERP does not answer")}
    monkeypatch.setattr(posting, "take_over", lambda *_: down)
    assert posting.resume_posting(work, "night") == []
    assert sentences(work) == [
        "Something else.",
        "The ERP could not be reached to take its ledger over (erp): the ERP does not answer.",
    ]
    monkeypatch.setattr(posting, "take_over", lambda *_: {})
    posting.resume_posting(work, "night")
    assert sentences(work) == ["Something else."]
