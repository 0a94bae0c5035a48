"""Mappings as engineers write them: which field of a source's record becomes which canonical column.

One YAML file per object under `conform/<kind>/`, for example `conform/stripe/refunds.yaml`. The type of a column is
the data model's; the file says where the value stands and how that source writes it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tieout import schema
from tieout.errors import ConfigError
from tieout.settings import Settings, load_config
from tieout.sources.config import mapped_as

Form = Literal[
    "text", "currency", "int", "bool", "minor", "minor_sum", "major", "decimal", "date", "unix", "unix_date",
    "unix_day", "iso", "iso_date", "json",
]  # fmt: skip
"""How a source writes a value: `minor` whole minor units, `major` an amount in currency units, `unix` seconds since
1970, `iso` an ISO 8601 instant; the `_date` forms give the day of that instant in the legal entity's zone, `unix_day`
the UTC day whose midnight it is."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ColumnMapping(_Strict):
    """Where a column's value comes from: a path into the record, or SQL over columns and fields of the same file."""

    path: str | tuple[str, ...] | None = None
    """Keys joined by dots, `[0]` or `[*]` for lists; a leading `^` reads from the enclosing record. Of several paths
    the first that holds something: one object whose records come in more than one shape."""
    prefix: str | tuple[str, ...] | None = None
    """Path of a text that goes before the value, with `#` between, where the record has one: an id's name space."""
    form: Form | None = Field(default=None, alias="as")
    required: bool | None = None
    default: str | None = None
    codes: dict[str, str] | None = None
    """The source's code to ours; a code that is not listed is a fault."""
    min: int | None = None
    sql: str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> ColumnMapping:
        if (self.path is None) == (self.sql is None):
            raise ValueError("give either `path` or `sql`")
        if self.path == () or any(p.startswith("^") for p in self.paths[1:]):
            raise ValueError("several paths read from one record: none of them begins with ^")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the value may stand, in the order it is looked for."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else self.path

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Where the text before the value may stand."""
        return () if self.prefix is None else (self.prefix,) if isinstance(self.prefix, str) else self.prefix


def _short_form(value: Any) -> Any:
    """`number: number` in place of `number: {path: number}`, and a list in place of `{path: [...]}`."""
    return {"path": value} if isinstance(value, str | list) else value


class Check(_Strict):
    """A rule of the source's own: a record for which `fault_if` (SQL over columns and fields) is true is set aside."""

    code: str
    field: str
    fault_if: str
    expected: str


MappedColumn = Annotated[ColumnMapping, BeforeValidator(_short_form)]


class EntityMapping(_Strict):
    """One canonical entity made from an object's records: one row per record, or per element of a list in it."""

    each: str | None = None
    """Path of the list whose elements become rows."""
    each_sql: str | None = None
    """SQL over `record` that gives the list of elements (JSON[]), where a path is not enough."""
    parent: str | None = None
    """Column that holds the enclosing record's id: the rows of an older version of that record go with it."""
    keep: Literal["newest", "first", "distinct"] = "newest"
    """Which version of a record wins: the newest, or for messages that must not change, the first received.
    `distinct`: the first received too, but every other content stays beside it, so that it can be told."""
    identity: str | None = None
    """With `distinct`: the column that says which records are versions of one."""
    content: tuple[str, ...] = ()
    """With `distinct`: the columns in which two versions must agree to be the same."""
    where: str | None = None
    """SQL over columns and fields: records for which it is not true give no row (they are not faults)."""
    fields: dict[str, MappedColumn] = Field(default_factory=dict)
    """Values the `sql` of columns needs, by a name of one's choice; not written anywhere."""
    columns: dict[str, MappedColumn]
    checks: tuple[Check, ...] = ()

    @property
    def is_list(self) -> bool:
        return self.each is not None or self.each_sql is not None


class ObjectMapping(_Strict):
    """One object of a source kind and the entities its records become; the first entity is the record itself."""

    object: str
    amounts: Literal["minor", "major"] = "major"
    instants: Literal["unix", "iso"] = "iso"
    vendor: Literal["iso", "stripe"] = "iso"
    """Whose table of minor units the amounts follow."""
    version: str | tuple[str, ...] | None = None
    """Path or paths of the stamp that orders two versions; without one, the later read is the newer."""
    value_at_risk: str | None = None
    """Path of the amount that waits while the record is in quarantine, and of its currency: `total currency`."""
    entities: dict[str, EntityMapping]

    @model_validator(mode="after")
    def _columns_are_in_the_schema(self) -> ObjectMapping:
        for position, (name, entity) in enumerate(self.entities.items()):
            if name not in schema.TABLES:
                raise ValueError(f"{name} is not a canonical entity; there are {sorted(schema.TABLES)}")
            unknown = sorted(set(entity.columns) - set(schema.table(name).names))
            if unknown:
                raise ValueError(f"{name} has no columns {unknown}")
            if "source_id" not in entity.columns:
                raise ValueError(f"{name} needs `source_id`")
            if position == 0 and (entity.is_list or entity.where):
                raise ValueError(f"the first entity, {name}, must be the record itself, every one of them")
            if (entity.keep == "distinct") != bool(entity.identity and entity.content):
                raise ValueError(f"{name}: `keep: distinct` needs `identity` and `content`, and only it has them")
            strange = sorted({*entity.content, *filter(None, [entity.identity])} - set(schema.table(name).names))
            if strange:
                raise ValueError(f"{name} has no columns {strange}")
            if entity.is_list and entity.parent not in entity.columns:
                raise ValueError(f"{name} is made from a list: `parent` must name its column of the record's id")
            loose = [f for f, spec in entity.fields.items() if spec.path and spec.form is None]
            if loose:
                raise ValueError(f"fields {loose} of {name} need `as`")
        return self

    @property
    def versions(self) -> tuple[str, ...]:
        """Where the stamp may stand."""
        return () if self.version is None else (self.version,) if isinstance(self.version, str) else self.version

    @property
    def main(self) -> str:
        """The entity that is the record itself."""
        return next(iter(self.entities))


def load_mapping(path: Path) -> ObjectMapping:
    """Read and check one mapping file. Raises ConfigError naming the file and what is wrong in it."""
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _parsed(path: Path, changed: int) -> ObjectMapping:
    """The mapping in a file as of its last change: a worker conforms every few minutes, the files seldom change."""
    return load_config(ObjectMapping, path)


def load_mappings(settings: Settings, kind: str) -> dict[str, ObjectMapping]:
    """The mappings of a source kind by object name. Raises ConfigError if there are none, or two for one object."""
    found: dict[str, ObjectMapping] = {}
    for path in settings.config_files(f"conform/{mapped_as(kind)}", ".yaml"):
        mapping = load_mapping(path)
        if mapping.object in found:
            raise ConfigError("two mappings for one object", record=str(path), got=mapping.object)
        shared = {e: m.object for m in found.values() for e in m.entities if e in mapping.entities}
        if shared:
            raise ConfigError("an entity comes from one object only", record=str(path), got=shared)
        found[mapping.object] = mapping
    if not found:
        raise ConfigError(
            f"no mappings for sources of kind {kind}",
            expected=f"YAML files in conform/{mapped_as(kind)} of the configuration",
            remedy="write one file per object",
        )
    return found
