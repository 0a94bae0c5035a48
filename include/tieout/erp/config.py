"""What every ERP's configuration file says, and what an adapter has to bring to be chosen by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, field_validator

from tieout.entities import EntityId, LegalEntity
from tieout.erp.port import Ledger
from tieout.errors import ConfigError
from tieout.settings import Connection

_NAMES: dict[str, Any] = {
    "anyOf": [
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "array", "items": {"type": "string"}},
    ]
}

ReceivableMode = Literal["gl_control", "per_customer", "documents"]


class ErpConfig(BaseModel):
    """`erp/<name>.yaml` as far as all ERPs agree; each adapter's own configuration adds to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: str | None = None
    """Which adapter reads this file: tryton, odoo, …; the file's own name, where it says nothing."""
    companies: dict[EntityId, str]
    """Legal entity → the ERP's own company."""
    dimensions: Annotated[dict[str, str], WithJsonSchema(_NAMES)] = Field(default_factory=dict)
    """Dimensions kept in the ERP: ours → the ERP's name of it. A list keeps each under its own name."""
    max_lines: int = Field(default=500, ge=2)
    """Lines per journal; a longer batch is split before it gets to the ERP."""
    calls_per_second: float | None = Field(default=None, gt=0)
    """At most so many calls a second from the processes of one machine; none leaves it to the ERP to slow us down."""
    open_calls: int = Field(default=1, ge=1)
    """At most so many calls of the processes of one machine under way at once."""
    connect_timeout: float = Field(default=10, gt=0)
    read_timeout: float = Field(default=120, gt=0)
    tries: int = Field(default=5, ge=1)
    """How often a read is sent before it counts as unanswered."""
    pause_ms: int = Field(default=500, ge=0)
    """Before reading again; grows with each try."""
    settle_seconds: int = Field(default=60, ge=1)
    """How long a write whose sender died may still be under way in the ERP; see `tieout.ledger.post.Protocol`."""

    @field_validator("dimensions", mode="before")
    @classmethod
    def _list_keeps_names(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list | tuple) else value

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> Self:
        """Check the content of a file. Raises ConfigError."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ConfigError(f"the ERP's configuration is not usable: {error}") from None

    def company_of(self, entity: str) -> str:
        """The ERP's own company of a legal entity. Raises ConfigError where the file names none."""
        if entity not in self.companies:
            raise ConfigError(
                "no company of the ERP for this legal entity",
                got=entity,
                expected=list(self.companies),
                remedy="add it to `companies` in the ERP's file",
            )
        return self.companies[entity]

    def problems(self, entity: LegalEntity) -> list[str]:
        """What this file says wrongly about an entity besides its company, in sentences."""
        return []

    @property
    def settle(self) -> timedelta:
        """`settle_seconds` as a duration."""
        return timedelta(seconds=self.settle_seconds)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A kind of ERP. Its module holds one of these as `ADAPTER`, and `tieout.erp.open.ADAPTERS` names the module."""

    config: type[ErpConfig]
    """What its file may say."""
    ledger: Callable[[Connection, Any], Ledger]
    """Makes the ledger from a connection and the checked configuration; nothing is sent yet."""
    receivable_modes: tuple[ReceivableMode, ...]
    """What it can do with receivables; `config check` refuses an entity that wants another mode."""
    by_files: bool = False
    """Its connection is a folder, not a web address."""
