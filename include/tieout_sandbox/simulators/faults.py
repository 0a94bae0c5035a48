"""The fault dial: failures and bad data that a test sets over HTTP, fired in a fixed order, a fixed number of times."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieout_sandbox.simulators.wire import Answer

TRANSPORT_KINDS = ("rate_limit", "server_error", "timeout", "cut", "duplicate_page", "slow")
RECORD_KINDS = ("drop_field", "rename_field", "new_field", "change_type", "bad_row")
BAD_ROWS = ("text_amount", "unknown_currency", "nul", "huge", "encoding", "missing_customer", "negative_quantity")

HUGE_BYTES = 10 * 1024 * 1024
# Stands for bytes that are no UTF-8; `wire` replaces it once the answer is encoded.
UNDECODABLE = "\ue0ff"

_SPOILT_FIELDS: dict[tuple[str, str], dict[str, str]] = {
    ("stripe", "text_amount"): {"invoices": "total", "credit_notes": "total", "prices": "unit_amount", "*": "amount"},
    ("stripe", "unknown_currency"): {"*": "currency"},
    ("stripe", "missing_customer"): {"*": "customer"},
    ("stripe", "text"): {"customers": "name", "products": "name", "*": "description"},
    ("stripe", "negative_quantity"): {"*": "quantity"},
    ("salesforce", "text_amount"): {
        "Opportunity": "Amount",
        "SBQQ__Quote__c": "SBQQ__NetAmount__c",
        "*": "SBQQ__NetPrice__c",
    },
    ("salesforce", "unknown_currency"): {"*": "CurrencyIsoCode"},
    ("salesforce", "missing_customer"): {
        "SBQQ__Subscription__c": "SBQQ__Account__c",
        "SBQQ__Quote__c": "SBQQ__Account__c",
        "*": "AccountId",
    },
    ("salesforce", "text"): {"*": "Name"},
    ("salesforce", "negative_quantity"): {"*": "SBQQ__Quantity__c"},
    ("zendesk", "text_amount"): {"*": "id"},
    ("zendesk", "unknown_currency"): {"*": "status"},
    ("zendesk", "missing_customer"): {"organizations": "external_id", "*": "organization_id"},
    ("zendesk", "text"): {"tickets": "subject", "*": "name"},
    ("zendesk", "negative_quantity"): {"*": "id"},
}


@dataclass(slots=True)
class Fault:
    """One setting of the dial.

    It fires on requests whose path matches the glob `path` (and `method`, a substring `query` of the decoded query
    string, the vendor's object name `object` for record faults), after letting `skip` of them pass, `count` times
    (None: until cleared). Record faults touch the record `record_id`, else for a bad row the record at position
    `row` and for schema drift every record.
    """

    kind: str
    path: str = "*"
    method: str | None = None
    query: str = ""
    object: str = "*"
    count: int | None = 1
    skip: int = 0
    status: int = 500
    seconds: float = 0.0
    retry_after: int = 1
    after: bool = False  # a server_error that lets the request take effect before it answers
    variant: str = ""
    field: str = ""
    to: str = ""
    value: Any = None
    record_id: str = ""
    row: int = 0
    id: str = ""
    seen: int = 0
    fired: int = 0

    @property
    def spent(self) -> bool:
        return self.count is not None and self.fired >= self.count


@dataclass(slots=True)
class Dial:
    """Every fault that is set, in the order it was set."""

    faults: list[Fault] = field(default_factory=list)
    made: int = 0
    _last_pages: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def set(self, setting: Mapping[str, Any]) -> Fault:
        """Add one fault. Raises ValueError for an unknown kind, variant or field name."""
        known = {f.name for f in fields(Fault)} - {"id", "seen", "fired"}
        unknown = sorted(set(setting) - known)
        if unknown:
            raise ValueError(f"unknown fields {unknown}; known: {sorted(known)}")
        fault = Fault(**setting)
        if fault.kind not in TRANSPORT_KINDS + RECORD_KINDS:
            raise ValueError(f"unknown kind {fault.kind!r}; known: {TRANSPORT_KINDS + RECORD_KINDS}")
        if fault.kind == "bad_row" and fault.variant not in BAD_ROWS and not fault.field:
            raise ValueError(f"a bad_row needs a variant of {BAD_ROWS}, or field and value; got {fault.variant!r}")
        if fault.kind in ("drop_field", "rename_field", "new_field", "change_type") and not fault.field:
            raise ValueError(f"{fault.kind} needs the field it changes")
        self.made += 1
        fault.id = f"fault-{self.made}"
        self.faults.append(fault)
        return fault

    def clear(self, fault_id: str | None = None) -> None:
        """Remove one fault, or all."""
        self.faults = [] if fault_id is None else [f for f in self.faults if f.id != fault_id]
        self._last_pages = {}

    def listing(self) -> list[dict[str, Any]]:
        """The faults with how often each was seen and fired."""
        return [asdict(f) for f in self.faults]

    def transport(self, method: str, path: str, query: str) -> Fault | None:
        """The first transport fault that fires on this request."""
        for fault in self.faults:
            if (
                fault.kind in TRANSPORT_KINDS
                and fault.kind != "duplicate_page"
                and self._fires(fault, method, path, query)
            ):
                return fault
        return None

    def duplicate_page(
        self, method: str, path: str, query: str, *, reading: str, follow_up: bool = True
    ) -> Answer | None:
        """The page served before this one, where a duplicate_page fault fires on a follow-up page.

        `reading` tells one walk through a list from another: several accounts read at the same time.
        """
        for fault in self.faults:
            if fault.kind != "duplicate_page" or not follow_up or (fault.id, reading) not in self._last_pages:
                continue
            if self._fires(fault, method, path, query):
                return self._last_pages[fault.id, reading]
        return None

    def remember_page(self, method: str, path: str, query: str, page: Answer, *, reading: str) -> None:
        """Keep the page just served for duplicate_page faults that match it and are not yet spent."""
        for fault in self.faults:
            if fault.kind == "duplicate_page" and not fault.spent and _matches(fault, method, path, query):
                self._last_pages[fault.id, reading] = page

    def spoil(
        self, system: str, object_name: str, method: str, path: str, query: str, records: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The records of one answer after every record fault that fires on it (copies; the input stays)."""
        for fault in self.faults:
            if fault.kind not in RECORD_KINDS or not fnmatchcase(object_name, fault.object):
                continue
            chosen = _chosen(fault, records)
            if chosen and self._fires(fault, method, path, query):
                records = [_spoilt(fault, system, object_name, r) if i in chosen else r for i, r in enumerate(records)]
        return records

    @staticmethod
    def _fires(fault: Fault, method: str, path: str, query: str) -> bool:
        if fault.spent or not _matches(fault, method, path, query):
            return False
        fault.seen += 1
        if fault.seen <= fault.skip:
            return False
        fault.fired += 1
        return True


def _matches(fault: Fault, method: str, path: str, query: str) -> bool:
    return (
        fnmatchcase(path, fault.path)
        and (fault.method is None or fault.method.upper() == method)
        and fault.query.lower() in query.lower()
    )


def _chosen(fault: Fault, records: list[dict[str, Any]]) -> set[int]:
    if fault.record_id:
        return {i for i, r in enumerate(records) if str(r.get("id", r.get("Id"))) == fault.record_id}
    if fault.kind == "bad_row":
        return {fault.row} if fault.row < len(records) else set()
    return set(range(len(records)))


def _spoilt(fault: Fault, system: str, object_name: str, record: dict[str, Any]) -> dict[str, Any]:
    record = copy.deepcopy(record)
    holder, name = _holder(record, fault.field or _default_field(fault, system, object_name))
    if holder is None:
        return record
    old = holder.get(name)
    match fault.kind:
        case "drop_field":
            holder.pop(name, None)
        case "rename_field":
            holder[fault.to or f"{name}_renamed"] = holder.pop(name, None)
        case "new_field":
            holder[name] = "new" if fault.value is None else fault.value
        case "change_type":
            holder[name] = {"value": old} if isinstance(old, str) else str(old)
        case "bad_row":
            holder[name] = _bad_value(fault, old)
    return record


def _bad_value(fault: Fault, old: Any) -> Any:
    match fault.variant:
        case "text_amount":
            return "twelve hundred"
        case "unknown_currency":
            return "xxq" if isinstance(old, str) and old.islower() else "XXQ"
        case "nul":
            return f"{old or 'text'}\x00 with a NUL"
        case "huge":
            return "x" * HUGE_BYTES
        case "encoding":
            return f"{old or 'text'} {UNDECODABLE}"
        case "missing_customer":
            return None
        case "negative_quantity":
            return -abs(old) if isinstance(old, int | float) and old else -1
    return fault.value


def _default_field(fault: Fault, system: str, object_name: str) -> str:
    variant = "text" if fault.variant in ("nul", "huge", "encoding") else fault.variant
    by_object = _SPOILT_FIELDS[system, variant]
    return by_object.get(object_name, by_object["*"])


def _holder(record: dict[str, Any], dotted: str) -> tuple[dict[str, Any] | None, str]:
    """The innermost mapping that holds a dotted field (`lines.data.0.amount`), and its last name."""
    *way, name = dotted.split(".")
    place: Any = record
    for step in way:
        try:
            place = place[int(step)] if isinstance(place, list) else place[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None, name
    return (place, name) if isinstance(place, dict) else (None, name)
