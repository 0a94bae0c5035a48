"""What a person does about a journal is as patient with its ERP as posting is."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest

from tieout.orchestration import by_hand
from tieout.orchestration.work import Work
from tieout.settings import Settings

BATCH = "TIEOUT/US/main/2026-03/billing/2026-03-29/v1"
BY = {"actor": "al", "second": "bea", "reason": "typo"}


@pytest.mark.parametrize(
    ("act", "does", "more"),
    [
        ("reverse", "reverse", {"on": date(2026, 3, 30), **BY}),
        ("resolve", "resolve", {"documents": None, **BY}),
        ("recheck", "recheck_mismatched", {"actor": "al"}),
        ("recheck", "ask_again", {"actor": "al"}),
    ],
)
def test_by_hand_waits_as_long_as_the_erp_may_take(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, act: str, does: str, more: dict[str, Any]
) -> None:
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path))
    monkeypatch.delenv("TIEOUT_STORE", raising=False)
    work = Work(Settings.from_env())
    work.store.upgrade()

    @contextmanager
    def ledger(self: Work, name: str | None = None) -> Any:
        yield "the ledger"

    given: list[Any] = []
    monkeypatch.setattr(Work, "ledger", ledger)
    monkeypatch.setattr("tieout.orchestration.posting.protocol", lambda work, batch_id: f"patience of {batch_id}")
    monkeypatch.setattr("tieout.orchestration.approval.may_approve", lambda work, batch_id: ())
    state = "unknown" if does == "ask_again" else "mismatched"
    monkeypatch.setattr("tieout.store.batches.state_of", lambda session, batch_id: state)
    monkeypatch.setattr(f"tieout.ledger.{does}", lambda *_, protocol=None, **__: given.append(protocol) or "done")
    assert getattr(by_hand, act)(work, BATCH, **more) == "done"
    assert given == [f"patience of {BATCH}"]
