"""Steps replaced by notes of their names, so that a workflow's wiring runs without a store, a lake or an ERP."""

import importlib

DAY = "2026-03-29"
RUN = {"run_id": "r", "business_date": DAY}
STEPS = {
    "steps": {
        "open_run": lambda work, run_id, kind, day: {"run_id": run_id, "business_date": day, "kind": kind},
        "open_month": RUN,
    },
    "intake": {"extract": {}, "conform": {}, "read_ledger": {}, "freshness": {}},
    "checking": {"quality_gate": {}, "aggregate_usage": {}, "reconcile_sources": {}, "reconcile_ledger": {}},
    "planning": {"plan_journals": {}, "plan_month_end": {}},
    "posting": {"resume_posting": [], "ask_for_approval": [], "posting_result": {}, "prove": {}},
    "closing": {"report": {}, "close_backlog": {}},
    "past_dates": {
        "open_backfill": {"run_id": "b", "to": DAY, "runs": [RUN, {"run_id": "s", "business_date": "2026-03-30"}]},
        "backfill_dry_run": {},
        "question": None,
        "decision": None,
        "plan_backfill": RUN,
    },
    "recompute": {"recompute": {}},
}


def install(monkeypatch) -> list[str]:
    """Replace every step; returns the list that collects the names of those called."""
    from tieout.orchestration import work

    notes: list[str] = []

    def stand_in(name, answer):
        def noted(*args, **kwargs):
            notes.append(name)
            return answer(*args, **kwargs) if callable(answer) else answer

        return noted

    monkeypatch.setattr(work.Work, "from_env", classmethod(lambda cls, connect=None: None))
    for module, functions in STEPS.items():
        loaded = importlib.import_module(f"tieout.orchestration.{module}")
        for name, answer in functions.items():
            monkeypatch.setattr(loaded, name, stand_in(name, answer))
    return notes
