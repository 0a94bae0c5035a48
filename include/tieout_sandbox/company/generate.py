"""The whole company by seed and scale."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, time, timedelta
from itertools import chain
from random import Random

from tieout_sandbox.company import crm, planted
from tieout_sandbox.company.catalogue import BY_ID, ENTITIES, PRODUCTS, UNMAPPED
from tieout_sandbox.company.days import DAY, END, GO_LIVE, START
from tieout_sandbox.company.drafts import LabelDraft
from tieout_sandbox.company.erp_history import history, manual_moves
from tieout_sandbox.company.freeze import freeze_documents, number_invoices, pay_out
from tieout_sandbox.company.lifecycle import Life, live
from tieout_sandbox.company.model import Company, Label
from tieout_sandbox.company.plans import PROSPECTS_PER_ENTITY, planted_plans, random_plans, scripted_plans
from tieout_sandbox.company.settle import settle
from tieout_sandbox.company.support import ask_for_help, number_tickets, provision
from tieout_sandbox.company.world import World


def generate(seed: int = 7, scale: int = 1, clean: bool = False) -> Company:
    """The company of a seed; `scale` multiplies its customers; `clean` plants nothing.

    Equal arguments give equal companies, on every machine and Python version. Raises ValueError for a scale below 1.
    """
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    collects = gc.isenabled()
    gc.disable()  # millions of small objects, none of them in a cycle
    try:
        return _generate(Company(seed, scale, clean, GO_LIVE, START, END))
    finally:
        if collects:
            gc.enable()


def _generate(company: Company) -> Company:
    seed, scale, clean = company.seed, company.scale, company.clean
    company.entities = list(ENTITIES)
    company.products = [p for p in PRODUCTS.values() if not clean or p.key != UNMAPPED]
    world = World(company)
    plans = chain.from_iterable(chain(random_plans(seed, e.id, scale), scripted_plans(e.id)) for e in ENTITIES)
    for plan in plans if clean else chain(plans, planted_plans(scale)):
        _customer(world, live(world, plan))
    _prospects(world, scale)
    if not clean:
        planted.plant_strangers(world, scale)
    numbers = number_invoices(world)
    tickets = number_tickets(world)
    freeze_documents(world, numbers)
    pay_out(world)
    company.prices = list(world.prices.prices.values())
    company.erp_history = history(company)
    company.manual_moves = manual_moves(company)
    if not clean:
        unusable = {c.invoice_id for c in company.credit_notes}
        keys = {i.id for i in world.invoices if i.case is not None}
        planted.plant_ledger(
            company,
            world,
            [
                i for i in company.invoices
                if i.accounting_date is not None and i.accounting_date < GO_LIVE - DAY * 8
                and i.voided_at is None and i.uncollectible_at is None
                and i.id not in unusable and i.id not in keys and i.total > 0 and not i.credit_applied
            ],
        )  # fmt: skip
        planted.plant_manual_moves(company, world)
        planted.plant_unreadable_usage(company)
        company.labels = _labels(world, numbers, tickets)
    company.usage_events.sort(key=lambda e: (e.visible_at, e.event_id, e.copy))
    company.manual_moves.sort(key=lambda m: (m.visible_at, m.key))
    return company


def _customer(world: World, lives: list[Life]) -> None:
    """Settle, spoil and freeze what became of a customer."""
    company = world.company
    for life in lives:
        settle(world, life)
        planted.plant(world, life)
        world.invoices.extend(life.invoices)
        for contract in life.contracts:
            contract.freeze(world)
        company.subscriptions.append(life.subscription)
        if life.contracts:
            provision(world, life.account.id, BY_ID[life.plan.entity].zone, life.subscription)
    if lives and lives[0].contracts:
        company.accounts.append(lives[0].account.freeze())
        if lives[0].plan.case not in ("case_without_contract", "case_deleted"):
            ask_for_help(world, lives[0], lives[-1].plan.start, lives[-1].ends_on)


def _prospects(world: World, scale: int) -> None:
    """Accounts that have bought nothing yet."""
    for entity in ENTITIES:
        for n in range(PROSPECTS_PER_ENTITY * scale):
            rng = Random(f"{world.company.seed}/prospect/{entity.id}/{n}")
            account = crm.open_account(world, rng, entity.id, START + DAY * rng.randrange(60, 190))
            world.company.accounts.append(account.freeze())
            crm.court(world, rng, account)
            if n < 3:
                saved = datetime.combine(GO_LIVE + DAY * (n + 1), time(8, 46), UTC)
                crm.note_late(world, account, saved, saved + timedelta(minutes=22))


def _labels(world: World, numbers: dict[str, str], tickets: dict[str, int]) -> list[Label]:
    found = [_label(n, draft, numbers, tickets) for n, draft in enumerate(world.labels, 1)]
    return sorted(found, key=lambda label: (label.definition_id, label.break_type, label.break_key, label.visible_from))


def _label(n: int, draft: LabelDraft, numbers: dict[str, str], tickets: dict[str, int]) -> Label:
    key = draft.key
    if key.startswith("{invoice:"):
        key = numbers[key[9:-1]]
    elif key.startswith("{ticket:"):
        key = str(tickets[key[8:-1]])
    return Label(
        f"L{n:05d}", draft.definition_id, draft.break_type, draft.legal_entity_id, key, draft.visible_from,
        draft.visible_to, draft.amount, draft.currency, draft.note,
    )  # fmt: skip
