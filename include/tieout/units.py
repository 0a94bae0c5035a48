"""Units of measure: what one unit is in another, from a table of exact factors with dates.

A factor is a whole number, a decimal or a fraction of two whole numbers, never a binary float: a minute is exactly 1/60
of an hour. Converted quantities have nine decimal places, rounded half away from zero; the sender's own quantity and
unit are kept beside them.
"""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tieout.settings import Settings, load_config

LARGEST = 1 << 31  # of numerator and denominator: a product with any quantity then fits the engine's integers
_FOREVER = date(9999, 12, 31)


def _factor(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError(f"a factor is exact: write {value!r} in quotes, or as a fraction such as 1/60")
    if isinstance(value, bool) or not isinstance(value, int | str | Fraction):
        raise ValueError("a factor is a whole number, a decimal in quotes or a fraction such as 1/60")
    try:
        factor = Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is no number and no fraction such as 1/60") from None
    if factor <= 0:
        raise ValueError("a factor is above zero")
    if max(factor.numerator, factor.denominator) > LARGEST:
        raise ValueError(
            f"a factor's parts are at most {LARGEST}; {factor.numerator}/{factor.denominator} is beyond that"
        )
    return factor


class Conversion(BaseModel):
    """One `from` is `factor` times one `to`, and the other way round, from one day to before another."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True)

    source: Annotated[str, Field(alias="from", min_length=1)]
    target: Annotated[str, Field(alias="to", min_length=1)]
    factor: Annotated[Fraction, BeforeValidator(_factor)]
    meter: str | None = None
    """The one meter it holds for, going before one for all."""
    valid_from: date = date.min
    valid_to: date = _FOREVER
    """The first day after it."""

    @model_validator(mode="after")
    def _converts(self) -> Conversion:
        if self.source == self.target:
            raise ValueError(f"{self.source} needs no conversion to itself")
        if self.valid_from >= self.valid_to:
            raise ValueError(f"ends on {self.valid_to}, which is not after it begins on {self.valid_from}")
        return self


class Units(BaseModel):
    """`units.yaml`: the conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversions: tuple[Conversion, ...] = ()

    @model_validator(mode="after")
    def _one_factor_a_day(self) -> Units:
        last: dict[tuple[str, frozenset[str]], Conversion] = {}
        for one in sorted(self.conversions, key=lambda c: c.valid_from):
            pair = (one.meter or "", frozenset((one.source, one.target)))
            before = last.get(pair)
            if before is not None and one.valid_from < before.valid_to:
                raise ValueError(
                    f"two conversions of {one.source} and {one.target}, each of which holds both ways, hold on "
                    f"{one.valid_from}; end the first with valid_to: {one.valid_from}"
                )
            last[pair] = one
        return self


def load_units(settings: Settings) -> Units:
    """Read and check `units.yaml`. Raises ConfigError naming file, line and what is wrong."""
    return load_config(Units, settings.config_file("units.yaml"))


def conversion_table(units: Units) -> pa.Table:
    """Columns meter (null = every one), from_unit, to_unit, numerator, denominator, valid_from, valid_to; both ways."""
    texts = ("meter", "from_unit", "to_unit")
    shape = pa.schema(
        [(name, pa.string()) for name in texts]
        + [
            ("numerator", pa.int64()),
            ("denominator", pa.int64()),
            ("valid_from", pa.date32()),
            ("valid_to", pa.date32()),
        ]
    )
    rows = [
        (c.meter, a, b, f.numerator, f.denominator, c.valid_from, c.valid_to)
        for c in units.conversions
        for a, b, f in ((c.source, c.target, c.factor), (c.target, c.source, 1 / c.factor))
    ]
    return pa.Table.from_pylist([dict(zip(shape.names, row, strict=True)) for row in rows], schema=shape)


# Whole billionths of a unit times whole numbers: a quotient of decimals would be a binary float.
CONVERTED = """
CREATE OR REPLACE TEMP MACRO converted(quantity, numerator, denominator) AS TRY_CAST(
  TRY_CAST(
    CASE WHEN quantity < 0 THEN -1 ELSE 1 END
    * ((2 * abs(CAST(quantity * 1000000000 AS HUGEINT)) * numerator + denominator) // (2 * denominator))
  AS DECIMAL(29,0)) * CAST(0.000000001 AS DECIMAL(9,9)) AS DECIMAL(28,9))
"""
"""SQL macro `converted(quantity, numerator, denominator)`: a DECIMAL(28,9) times a fraction, rounded half away from
zero at the ninth place; null where the result does not fit."""
