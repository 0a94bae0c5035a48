"""The support desk: organisations, their users, tickets; and what the product gives each subscription."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from random import Random

from tieout_sandbox.company.days import DAY, END, GO_LIVE, moment
from tieout_sandbox.company.lifecycle import Life
from tieout_sandbox.company.model import (
    Organization,
    ProvisioningRow,
    Subscription,
    SupportUser,
    Ticket,
    TicketVersion,
)
from tieout_sandbox.company.world import World

_SUBJECTS = ("Cannot log in after SSO change", "Export takes too long", "Invoice copy needed", "API returns 500",
             "Add a user to our workspace", "Dashboard shows yesterday's data", "Webhook not delivered",
             "How do we change the owner?")  # fmt: skip
_PRIORITIES = ("low", "normal", "normal", "high", "urgent")
_NAMES = ("Avery", "Blake", "Casey", "Devon", "Emery", "Finley", "Harper", "Jordan", "Kai", "Logan", "Morgan", "Quinn")
SNAPSHOTS = tuple(date(2026, 3, 28) + DAY * n for n in range(6))
"""Days on which the product reports what it has provisioned."""


def working_moment(day: date, fraction: float) -> datetime:
    """An instant of a UTC day between 09:06 and 23:50, when support states change (see `model`)."""
    return datetime.combine(day, time(9, 6), UTC) + timedelta(seconds=int(fraction * 53_000))


def open_organization(world: World, name: str, external_id: str | None, created: datetime, domain: str) -> Organization:
    """An organisation with one or two users."""
    organization = Organization(world.numbers.zendesk("organization"), name, external_id, (domain,), created)
    world.company.organizations.append(organization)
    rng = Random(f"{world.company.seed}/users/{organization.id}")
    for n in range(rng.randrange(1, 3)):
        person = rng.choice(_NAMES)
        world.company.support_users.append(
            SupportUser(
                world.numbers.zendesk("user"), organization.id, f"{person} {name.split()[0]}",
                f"{person.lower()}{n}@{domain}", created,
            )
        )  # fmt: skip
    return organization


def requester(world: World, organization: Organization) -> int:
    """The organisation's user opened last."""
    return next(u.id for u in reversed(world.company.support_users) if u.organization_id == organization.id)


def add_ticket(
    world: World,
    key: str,
    entity: str | None,
    organization: Organization | None,
    opened: date,
    rng: Random,
    solved: date | None,
    deleted: date | None = None,
) -> None:
    """A ticket opened on a day, worked on, and solved on another one unless it stays open or is deleted."""
    created = working_moment(opened, rng.random() * 0.8)
    versions = [TicketVersion(created, created, "new"), _later(created, 20, "open")]
    if solved is None or (solved - opened).days > 2:
        reply = working_moment(opened + DAY, rng.random())
        if reply.date() < END:
            versions.append(TicketVersion(reply, reply, "pending"))
    if solved is not None and solved < END:
        done = max(working_moment(solved, rng.random()), versions[-1].at + timedelta(minutes=30))
        versions.append(TicketVersion(done, done, "solved"))
        closed = working_moment(solved + DAY * 4, 0.5)
        if closed.date() < END:
            versions.append(TicketVersion(closed, closed, "closed"))
    if deleted is not None:
        at = working_moment(deleted, rng.random())
        versions = [v for v in versions if v.at < at] + [TicketVersion(at, at, "deleted")]
    ticket = Ticket(
        id=0,
        organization_id=organization.id if organization else None,
        requester_id=requester(world, organization) if organization else None,
        subject=rng.choice(_SUBJECTS),
        description="Please help: this stops our team from working.",
        priority=rng.choice(_PRIORITIES),  # type: ignore[arg-type]
        created=created,
        versions=tuple(versions),
    )
    world.tickets.append((key, entity, ticket))


def _later(at: datetime, minutes: int, status: str) -> TicketVersion:
    return TicketVersion(at + timedelta(minutes=minutes), at + timedelta(minutes=minutes), status)  # type: ignore[arg-type]


def ask_for_help(world: World, life: Life, first: date, last: date | None) -> None:
    """A customer's organisation and its tickets, all opened and solved while its newest contracts run [first, last)."""
    plan = life.plan
    rng = Random(f"{world.company.seed}/support/{plan.key}")
    organization = open_organization(
        world, life.account.name, life.account.id, life.account.created + timedelta(hours=1), life.account.domain
    )
    if not plan.tickets or plan.case is not None:
        return
    if plan.ticket_deleted_on is not None:
        opened, deleted = plan.ticket_deleted_on - DAY * 4, plan.ticket_deleted_on
        add_ticket(world, f"{plan.key}/deleted", plan.entity, organization, opened, rng, None, deleted)
    first, end = first + DAY * 2, (last or END) - DAY * 2
    for n in range(rng.choice((0, 0, 1, 1, 2, 3))):
        span = (end - first).days
        if span < 2:
            return
        opened = first + DAY * rng.randrange(span)
        if last is None and rng.random() < 0.25:
            opened = max(first, GO_LIVE - DAY * 8 + DAY * rng.randrange(14))
        solved: date | None = opened + DAY * rng.randrange(1, 12)
        if last is None and rng.random() < 0.1:
            solved = None
        elif solved is not None and solved > end:
            solved = end
        if solved is None or solved > opened:
            add_ticket(world, f"{plan.key}/{n}", plan.entity, organization, opened, rng, solved)


def number_tickets(world: World) -> dict[str, int]:
    """Add the tickets in order of creation; returns ticket key → id."""
    ids: dict[str, int] = {}
    first = 10_000 + world.company.seed % 1000
    ordered = sorted(world.tickets, key=lambda t: (t[2].created, t[0]))
    for number, (key, _, ticket) in enumerate(ordered, first):
        ids[key] = number
        world.company.tickets.append(replace(ticket, id=number))
    return ids


def provision(world: World, account_id: str, zone: str, subscription: Subscription) -> None:
    """What the product gave a subscription on each snapshot day."""
    world.company.provisioning.extend(_snapshots(account_id, zone, subscription))


def _snapshots(account_id: str, zone: str, subscription: Subscription) -> Iterator[ProvisioningRow]:
    for day in SNAPSHOTS:
        at = moment(zone, day, 0.95)
        current = [v for v in subscription.versions if v.visible_at <= at]
        if not current or (current[-1].ended_at is not None and day - current[-1].ended_at.date() > DAY * 3):
            continue
        for item in current[-1].items:
            yield ProvisioningRow(
                f"{subscription.id}/{item.id}/{day}", subscription.legal_entity_id, day, account_id, subscription.id,
                item.product_key, "disabled" if current[-1].status == "canceled" else "enabled", item.quantity, at,
            )  # fmt: skip
