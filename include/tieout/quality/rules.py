"""Rules of a canonical entity: those its schema implies, and those of `quality/<entity>.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tieout import schema
from tieout.errors import ConfigError
from tieout.schema import CANONICAL, Table
from tieout.settings import Settings, load_config

Severity = Literal["blocking", "warning"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reference(_Strict):
    """Rows of another table that must exist: this table's columns, and theirs in the same order."""

    columns: tuple[str, ...]
    table: str
    to: tuple[str, ...] = ("source", "source_id")


class Rule(_Strict):
    """One rule. Exactly one of the kinds is given; a null satisfies every kind but `not_null`."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    says: str
    """The rule as a sentence finance can read."""
    severity: Severity = "blocking"
    where: str | None = None
    """SQL: the rule is for these rows only."""
    not_null: str | None = None
    in_set: str | None = None
    values: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    matches: str | None = None
    pattern: str | None = None
    holds: str | None = None
    """SQL that is true of a good row."""
    references: Reference | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Rule:
        given = [k for k in ("not_null", "in_set", "unique", "matches", "holds", "references") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(f"rule {self.id} needs exactly one kind, has {given or 'none'}")
        if bool(self.in_set) != bool(self.values) or bool(self.matches) != bool(self.pattern):
            raise ValueError(f"rule {self.id}: `in_set` goes with `values`, `matches` with `pattern`")
        return self


class Suite(_Strict):
    """The rules of one entity. `value` is the amount that stands behind a row, in `currency`."""

    entity: str
    value: str | None = None
    currency: str = "currency"
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> Suite:
        if self.entity not in schema.TABLES:
            raise ValueError(f"{self.entity} is not a canonical entity")
        names = schema.table(self.entity).names
        if self.value is not None and {self.value, self.currency} - set(names):
            raise ValueError(f"{self.entity} has no columns {self.value} and {self.currency} to price a failure by")
        ids = [r.id for r in self.rules]
        if len(ids) != len(set(ids)):
            raise ValueError(f"rule ids repeat: {sorted(ids)}")
        for rule in self.rules:
            columns = [c for c in (rule.not_null, rule.in_set, rule.matches, *rule.unique) if c]
            columns += rule.references.columns if rule.references else ()
            if missing := sorted(set(columns) - set(names)):
                raise ValueError(f"rule {rule.id}: {self.entity} has no columns {missing}")
        return self


def implied(table: Table) -> tuple[Rule, ...]:
    """What the schema itself promises: a unique key, required columns filled, codes from their list."""
    key = ", ".join(table.key)
    rules = [Rule(id="key_is_unique", says=f"No two rows share {key}.", unique=table.key)]
    for column in table.columns:
        if column.required:
            rules.append(
                Rule(id=f"{column.name}_is_filled", says=f"Every row has {column.name}.", not_null=column.name)
            )
        if column.values:
            listed = ", ".join(column.values)
            rules.append(
                Rule(id=f"{column.name}_is_known", says=f"{column.name} is one of {listed}.", in_set=column.name,
                     values=column.values)
            )  # fmt: skip
    return tuple(rules)


def load_suites(settings: Settings) -> tuple[Suite, ...]:
    """A suite for every canonical entity: implied rules first, then those of its file.

    Raises ConfigError naming the file, and for a file of an entity there is none of.
    """
    own: dict[str, Suite] = {}
    for path in settings.config_files("quality", ".yaml"):
        suite = load_config(Suite, path)
        if suite.entity in own:
            raise ConfigError("two files with rules of one entity", record=str(path), got=suite.entity)
        own[suite.entity] = suite
    suites = []
    for table in CANONICAL:
        suite = own.get(table.name, Suite(entity=table.name))
        if clash := {r.id for r in implied(table)} & {r.id for r in suite.rules}:
            raise ConfigError("rule ids are taken by the schema's own rules", record=table.name, got=sorted(clash))
        suites.append(suite.model_copy(update={"rules": implied(table) + suite.rules}))
    return tuple(suites)


def fails(rule: Rule) -> str:
    """SQL that is true of a row (alias `r`) that breaks the rule."""
    if rule.not_null:
        broken = f'r."{rule.not_null}" IS NULL'
    elif rule.in_set:
        listed = ", ".join(_text(v) for v in rule.values)
        broken = f'r."{rule.in_set}" IS NOT NULL AND r."{rule.in_set}" NOT IN ({listed})'
    elif rule.matches:
        fits = f'regexp_full_match(r."{rule.matches}", {_text(rule.pattern or "")})'
        broken = f'r."{rule.matches}" IS NOT NULL AND NOT {fits}'
    elif rule.unique:
        columns = ", ".join(f'r."{c}"' for c in rule.unique)
        filled = " AND ".join(f'r."{c}" IS NOT NULL' for c in rule.unique)
        broken = f"{filled} AND count(*) OVER (PARTITION BY {columns}) > 1"
    elif rule.references:
        there = rule.references
        same = " AND ".join(f'o."{b}" = r."{a}"' for a, b in zip(there.columns, there.to, strict=True))
        filled = " AND ".join(f'r."{c}" IS NOT NULL' for c in there.columns)
        broken = f'{filled} AND NOT EXISTS (SELECT 1 FROM "{there.table}" o WHERE {same})'
    else:
        broken = f"NOT coalesce(({rule.holds}), true)"
    return f"coalesce(({rule.where}), false) AND ({broken})" if rule.where else broken


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
