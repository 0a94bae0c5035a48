"""Two people: the one rule by which a second person counts, for whatever way a decision comes in."""

from __future__ import annotations

from tieout.errors import IllegalTransition


def same_person(one: str, other: str) -> bool:
    """Whether two names are one person's: sign-in names differ in case between systems."""
    return one.strip().casefold() == other.strip().casefold()


def need_two(record: str, actor: str, second: str | None, reason: str) -> None:
    """Raise IllegalTransition unless somebody acts, somebody else agrees and a reason is given."""
    if not actor.strip() or not second or not second.strip() or same_person(actor, second):
        raise IllegalTransition("this needs a second person", record=record, got=(actor, second))
    if not reason.strip():
        raise IllegalTransition("this needs a reason", record=record, remedy="say why")
