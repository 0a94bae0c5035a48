"""Source contracts and drift: does a vendor still send the fields we rely on, in the types we rely on?

A contract lists an object's known fields; `a | b` is one field that records of another shape name otherwise. A
`blocking` field that vanishes or changes its type stops the extract; a `warning` field, and a field nobody knows, is
noted with the extract. Drift is a change of the vendor's, so it shows
in many records; a few odd ones are bad data and left to the quarantine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tieout.errors import ConfigError, DriftError
from tieout.settings import load_config

CONTRACTS = Path(__file__).parent / "contracts"
SHARE = 0.1  # of an extract's records, and at least FEWEST of them: what counts as a change of the vendor's
MOST_NEW = 1000  # new fields that are noted; more are no fields but data in the wrong place
FEWEST = 3

_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "int": (int,),
    "number": (int, str),  # a fraction is landed as text
    "bool": (bool,),
    "object": (dict,),
    "list": (list,),
    "null": (type(None),),
    "any": (str, int, bool, dict, list, type(None)),
}


class _Absent:
    """Stands for a field a record does not have."""


_ABSENT = _Absent()


class ObjectContract(BaseModel):
    """The fields of one object: name, or names joined by ` | `, to type: `text`, `int or null`, `object or absent`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    blocking: dict[str, str] = {}
    warning: dict[str, str] = {}

    @property
    def fields(self) -> dict[str, str]:
        """All known fields with their types."""
        return {**self.blocking, **self.warning}

    @property
    def names(self) -> frozenset[str]:
        """Every name a record's field may have."""
        return frozenset(name for field in self.fields for name in _names(field))


class SourceContract(BaseModel):
    """What one kind of source promises to send."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    version: str
    """The vendor's API version the contract describes, or our own version of a file feed's layout."""
    objects: dict[str, ObjectContract]

    def object(self, name: str) -> ObjectContract:
        """The contract of an object. Raises ConfigError if the source has none for it."""
        if name not in self.objects:
            raise ConfigError(
                "no contract for this object",
                record=f"{self.source}: {name}",
                expected=sorted(self.objects),
                remedy=f"describe its fields in contracts/{self.source}.yaml",
            )
        return self.objects[name]


@cache
def load_contract(name: str) -> SourceContract:
    """A shipped contract by name, or one by path. Raises ConfigError naming file, line and field."""
    path = Path(name) if name.endswith(".yaml") else CONTRACTS / f"{name}.yaml"
    if not path.exists():
        raise ConfigError("no such source contract", record=str(path))
    contract = load_config(SourceContract, path)
    for object_name, fields in contract.objects.items():
        for field, types in fields.fields.items():
            _allowed(types, f"{path.name}: {object_name}.{field}")
    return contract


class Drift:
    """Watches the records of one extract and says at its end what has changed."""

    def __init__(self, contract: ObjectContract) -> None:
        self._contract = contract
        self._known = contract.names
        self._checks = tuple((name, _names(name), _allowed(types, name)) for name, types in contract.fields.items())
        self._seen = 0
        self._new: dict[str, str] = {}
        self._odd: Counter[tuple[str, type]] = Counter()
        self._first: dict[str, str] = {}

    def see(self, records: Iterable[Any], request: str) -> None:
        """Look at records as parsed; those that are no objects or only tell of a deletion are passed over."""
        for record in records:
            if not isinstance(record, Mapping) or record.get("deleted") is True:
                continue
            self._seen += 1
            for name in sorted(record.keys() - self._known - self._new.keys()):
                if len(self._new) < MOST_NEW:
                    self._new[name] = _name_of(type(record[name]))
            for name, names, allowed in self._checks:
                kind = type(next((record[n] for n in names if n in record), _ABSENT))
                if kind not in allowed:
                    self._odd[name, kind] += 1
                    self._first.setdefault(name, request)

    def see_columns(self, columns: Iterable[str], request: str) -> None:
        """Look at the column names of a table that has no types, such as a CSV header."""
        present = set(columns)
        self._seen += FEWEST
        for name in present - self._known:
            self._new.setdefault(name, "text")
        for name, names, allowed in self._checks:
            if present.isdisjoint(names) and _Absent not in allowed:
                self._odd[name, _Absent] += FEWEST
                self._first.setdefault(name, request)

    def see_described(self, fields: Mapping[str, str], request: str) -> None:
        """Look at a vendor's own description: field name to contract type, nullable as far as it is concerned."""
        self._seen += FEWEST
        for name, kind in fields.items():
            if name not in self._known:
                self._new.setdefault(name, kind)
        for name, names, allowed in self._checks:
            described = next((_TYPES[fields[n]] for n in names if n in fields), (_Absent,))
            if not allowed.intersection(described):
                self._odd[name, described[0]] += FEWEST
                self._first.setdefault(name, request)

    def verdict(self, source: str, window: str) -> dict[str, Any]:
        """What to note with the extract. Raises DriftError where a blocking field has drifted."""
        least = max(FEWEST, SHARE * self._seen)
        notes = []
        for (name, kind), count in sorted(self._odd.items(), key=lambda item: item[0][0]):
            drifted = count >= least
            expected, got = self._contract.fields[name], _name_of(kind)
            if drifted and name in self._contract.blocking:
                raise DriftError(
                    f"field {_names(name)[0]} has {'vanished' if kind is _Absent else 'changed its type'} "
                    f"in {count} of {self._seen} records",
                    source=source,
                    window=window,
                    request=self._first[name],
                    record=_names(name)[0],
                    expected=expected,
                    got=got,
                    remedy="nothing was kept; adapt the mapping and the source contract to what the vendor sends now",
                )
            notes.append({"field": name, "expected": expected, "got": got, "records": count, "drifted": drifted})
        return {"records": self._seen, "new_fields": dict(sorted(self._new.items())), "deviations": notes}


def _names(field: str) -> tuple[str, ...]:
    return tuple(field.split(" | "))


def _allowed(types: str, where: str) -> frozenset[type]:
    """The Python types a contract's type text allows."""
    allowed: set[type] = set()
    for word in types.split(" or "):
        if word == "absent":
            allowed.add(_Absent)
        elif word in _TYPES:
            allowed.update(_TYPES[word])
        else:
            raise ConfigError("unknown type in a contract", record=where, got=word, expected=[*_TYPES, "absent"])
    return frozenset(allowed)


def _name_of(kind: type) -> str:
    if kind is _Absent:
        return "absent"
    return {str: "text", int: "int", bool: "bool", dict: "object", list: "list"}.get(kind, "null")
