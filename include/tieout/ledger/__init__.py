"""Accounting events to journals, journals to the ERP, exactly once, and the proof that they are there.

`summarise` is pure. `plan_batches` stores what is due, `post_batch` (or `submit`, then `read_back`) brings one batch
into the ERP, `golive.load` takes an entity over, `prove` shows that the ledger is what it should be.
"""

from tieout.ledger.blocked import Blocked, blocked
from tieout.ledger.cutover import Comparison, Replay, compare_ledgers, replay
from tieout.ledger.events import DAILY, EVENTS, MONTH_END, events
from tieout.ledger.placement import Placement
from tieout.ledger.plan import Plan, plan_batches, plan_month_ends, preview
from tieout.ledger.post import (
    ask_again,
    check_approval,
    due_batches,
    next_attempt,
    post_batch,
    read_back,
    recheck_mismatched,
    resolve,
    reverse,
    submit,
)
from tieout.ledger.proof import ProofLine, TrialBalanceProof, prove
from tieout.ledger.protocol import Protocol, Step
from tieout.ledger.reversal import Part, plan_reversal
from tieout.ledger.rules import Rules, load_accounts, load_rules
from tieout.ledger.summarise import CARRIED, Journals, summarise

__all__ = [
    "CARRIED",
    "DAILY",
    "EVENTS",
    "MONTH_END",
    "Blocked",
    "Comparison",
    "Journals",
    "Part",
    "Placement",
    "Plan",
    "ProofLine",
    "Protocol",
    "Replay",
    "Rules",
    "Step",
    "TrialBalanceProof",
    "ask_again",
    "blocked",
    "check_approval",
    "compare_ledgers",
    "due_batches",
    "events",
    "load_accounts",
    "load_rules",
    "next_attempt",
    "plan_batches",
    "plan_month_ends",
    "plan_reversal",
    "post_batch",
    "preview",
    "prove",
    "read_back",
    "recheck_mismatched",
    "replay",
    "resolve",
    "reverse",
    "submit",
    "summarise",
]
