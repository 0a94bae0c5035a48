"""From a stored document to the object Stripe answers: defaults filled in, sub-lists inlined, references expanded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tieout_sandbox.simulators.documents import DocumentStore, Query, Row
from tieout_sandbox.simulators.stripe import errors
from tieout_sandbox.simulators.stripe.resources import CREDIT_NOTE_LINES, ID_PREFIXES, LINES, TEMPLATES, Resource

INLINED = 10  # sub-lists carry their first ten members; the rest is read from their own URL
_MAX_DEPTH = 4
# Expandable fields whose stored value is null or absent until there is something to refer to.
_NULLABLE = {
    "balance_transaction",
    "charge",
    "customer",
    "default_payment_method",
    "default_price",
    "default_source",
    "destination",
    "failure_balance_transaction",
    "invoice",
    "latest_charge",
    "latest_invoice",
    "payment_intent",
    "refund",
    "subscription",
    "source",
}


@dataclass(slots=True)
class Presenter:
    """One account's objects as they are at one instant."""

    store: DocumentStore
    account: str
    now: int
    _cache: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def collection(self, name: str) -> int:
        return self.store.collection("stripe", self.account, name)

    def find(self, name: str, object_id: str) -> dict[str, Any] | None:
        """One object at the clock, or None."""
        row = self.store.get(self.collection(name), object_id, self.now)
        return None if row is None else self.object(name, row)

    def object(self, name: str, row: Row, at: int | None = None) -> dict[str, Any]:
        """A stored version as answered; `at` dates its sub-lists when that is not now (events)."""
        body = {"id": row.id, **TEMPLATES[name], **row.body}
        if body.pop("deleted", False):
            return {"id": row.id, "object": body["object"], "deleted": True}
        at = self.now if at is None else at
        match name:
            case "subscriptions":
                items = [self._item(i) for i in body["items"]]
                body["items"] = _inlined(items, len(items), f"/v1/subscription_items?subscription={row.id}")
                body["default_tax_rates"] = [self._inner("tax_rates", t) for t in body["default_tax_rates"]]
            case "invoices":
                body["lines"] = self._sub_list(LINES, row.id, at, f"/v1/invoices/{row.id}/lines")
                body["default_tax_rates"] = [self._inner("tax_rates", t) for t in body["default_tax_rates"]]
            case "credit_notes":
                body["lines"] = self._sub_list(CREDIT_NOTE_LINES, row.id, at, f"/v1/credit_notes/{row.id}/lines")
            case "lines" | "invoiceitems" | "credit_note_lines":
                if body.get("price") is not None:
                    body["price"] = self._inner("prices", body["price"])
                body["tax_rates"] = [self._inner("tax_rates", t) for t in body["tax_rates"]]
            case "prices":
                body.pop("tiers", None)  # shown where they are asked for
            case "disputes":
                found = (self.find("balance_transactions", t) for t in body["balance_transactions"])
                body["balance_transactions"] = [t for t in found if t is not None]
            case "balance_transactions":
                body["status"] = "available" if body["available_on"] <= at else "pending"
            case "events":
                return self._event(body)
        return body

    def subscription_items(self, subscription: dict[str, Any]) -> list[dict[str, Any]]:
        """All items of a stored subscription."""
        return [self._item(i) for i in subscription["items"]]

    def _item(self, stored: dict[str, Any]) -> dict[str, Any]:
        item = {**TEMPLATES["subscription_items"], **stored}
        item["price"] = self._inner("prices", item["price"])
        return item

    def _inner(self, name: str, object_id: str) -> dict[str, Any]:
        key = (name, object_id)
        if key not in self._cache:
            row = self.store.version(self.collection(name), object_id, 1)
            current = self.store.get(self.collection(name), object_id, self.now) or row
            if current is None:
                raise LookupError(f"{name} {object_id} is referred to but was not rendered")
            self._cache[key] = self.object(name, current)
        return self._cache[key]

    def _sub_list(self, resource: Resource, parent: str, at: int, url: str) -> dict[str, Any]:
        collection = self.collection(resource.name)
        query = Query(order=resource.order, limit=INLINED + 1).under(parent)
        rows = list(self.store.select(collection, at, query))
        return _inlined([self.object(resource.name, r) for r in rows[:INLINED]], len(rows), url)

    def _event(self, body: dict[str, Any]) -> dict[str, Any]:
        """The object as that version was, and for an update what it replaced."""
        name, object_id, version = body.pop("ref")
        previous = body.pop("previous", None)
        collection = self.collection(name)
        row = self.store.version(collection, object_id, version)
        if row is None:
            raise LookupError(f"{name} {object_id} version {version} has an event but was not rendered")
        shown = self.object(name, row._replace(body={**row.body, "deleted": False}), row.visible_at)
        data: dict[str, Any] = {"object": shown}
        if previous is not None:
            before = self.store.version(collection, object_id, previous)
            if before is not None:
                old = self.object(name, before, before.visible_at)
                data["previous_attributes"] = {k: v for k, v in old.items() if k in shown and shown[k] != v}
        return {**body, "data": data}

    def expand(self, answer: dict[str, Any], paths: list[str], *, is_list: bool) -> None:
        """Replace ids by objects along `expand[]` paths. Raises StripeError for what cannot be expanded."""
        for path in paths:
            steps = path.split(".")
            if is_list and steps[0] != "data":
                raise errors.invalid(
                    f"This property cannot be expanded ({path}). You may want to try expanding 'data.{path}' instead.",
                    param="expand",
                )
            if len(steps) - is_list > _MAX_DEPTH:
                raise errors.invalid(
                    f"You cannot expand more than {_MAX_DEPTH} levels of a property ({path}).", param="expand"
                )
            self._expand(answer, steps, path)

    def _expand(self, place: Any, steps: list[str], path: str) -> None:
        if isinstance(place, list):
            for member in place:
                self._expand(member, steps, path)
            return
        if place is None or not steps:
            return
        name, *rest = steps
        if name == "refunds" and place.get("object") == "charge":
            place["refunds"] = self._refunds(place["id"])
        elif name == "tiers" and place.get("object") == "price":
            stored = self.store.get(self.collection("prices"), place["id"], self.now)
            if stored is not None and "tiers" in stored.body:
                place["tiers"] = stored.body["tiers"]
            return
        elif name == "discounts" and place.get(name) == []:
            return
        elif name not in place or not (_is_reference(place[name]) or isinstance(place[name], dict | list)):
            if name in _NULLABLE and place.get(name) is None:
                return
            raise errors.invalid(f"This property cannot be expanded ({path}).", param="expand")
        elif isinstance(place[name], str):
            collection = ID_PREFIXES[place[name].split("_")[0]]
            found = self.find(collection, place[name])
            if found is not None:
                place[name] = found
        if not rest and isinstance(place.get(name), dict) and "id" not in place[name] and name != "refunds":
            raise errors.invalid(f"This property cannot be expanded ({path}).", param="expand")
        self._expand(place.get(name), rest, path) if not isinstance(place.get(name), str) else None

    def _refunds(self, charge: str) -> dict[str, Any]:
        query = Query(limit=INLINED + 1).under(charge)
        rows = list(self.store.select(self.collection("refunds"), self.now, query))
        shown = [self.object("refunds", r) for r in rows[:INLINED]]
        return _inlined(shown, len(rows), f"/v1/charges/{charge}/refunds")


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.split("_")[0] in ID_PREFIXES and "_" in value


def _inlined(members: list[dict[str, Any]], total: int, url: str) -> dict[str, Any]:
    return {"object": "list", "data": members[:INLINED], "has_more": total > INLINED, "url": url}
