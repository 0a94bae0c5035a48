"""Units: exact factors, one a day, mistakes explained; converting rounds once, at the ninth place."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.errors import ConfigError
from tieout.lake.engine import engine
from tieout.settings import Settings
from tieout.units import CONVERTED, LARGEST, conversion_table, load_units


def load(tmp_path: Path, *lines: str) -> Any:
    (tmp_path / "units.yaml").write_text("conversions:\n" + "".join(f"  - {line}\n" for line in lines))
    return load_units(Settings(tmp_path, tmp_path, "", ""))


def test_the_shipped_table_can_be_used(tmp_path: Path) -> None:
    units = load_units(Settings(tmp_path, tmp_path, "", ""))
    rows = {
        (r["from_unit"], r["to_unit"]): (r["numerator"], r["denominator"]) for r in conversion_table(units).to_pylist()
    }
    assert rows["gb", "mb"] == (1000, 1)
    assert rows["minute", "hour"] == (1, 60)


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        (["{from: a, to: b, factor: 0.001}"], "line 2.*exact: write 0.001 in quotes"),
        (["{from: a, to: b, factor: 1/0}"], "no number and no fraction"),
        (["{from: a, to: b, factor: -2}"], "above zero"),
        (["{from: a, to: b, factor: 10000000000}"], "at most"),
        (["{from: a, to: a, factor: 1}"], "needs no conversion to itself"),
        (["{from: a, to: b}"], "line 2.*factor: Field required"),
        (["{from: a, to: b, factor: 2, valid_from: 2026-02-01, valid_to: 2026-02-01}"], "not after it begins"),
        (["{from: a, to: b, factor: 2}", '{from: b, to: a, factor: "0.5", valid_from: 2026-03-01}'],
         "two conversions of b and a, each of which holds both ways, hold on 2026-03-01.*valid_to: 2026-03-01"),
    ],
)  # fmt: skip
def test_a_mistake_is_explained(tmp_path: Path, lines: list[str], mistake: str) -> None:
    with pytest.raises(ConfigError, match=mistake):
        load(tmp_path, *lines)


def test_one_meters_conversion_and_a_later_one_stand_beside_the_general(tmp_path: Path) -> None:
    units = load(
        tmp_path, "{from: a, to: b, factor: 2, valid_to: 2026-03-01}",
        '{from: a, to: b, factor: "2.5", valid_from: 2026-03-01}', "{from: a, to: b, factor: 3, meter: m}",
    )  # fmt: skip
    assert conversion_table(units).num_rows == 6


@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.decimals(-(10**15), 10**15, places=9),
            st.integers(1, LARGEST),
            st.integers(1, LARGEST),
        ),
        min_size=20,
        max_size=40,
    )
)
def test_converting_is_exact_to_half_of_the_ninth_place(cases: list[tuple[Decimal, int, int]]) -> None:
    with engine() as session, localcontext() as exact:
        exact.prec = 60
        session.execute(CONVERTED)
        shape = pa.schema([("q", pa.decimal128(28, 9)), ("n", pa.int64()), ("d", pa.int64()), ("place", pa.int32())])
        session.bind("cases", pa.Table.from_pylist(
            [{"q": q, "n": n, "d": d, "place": i} for i, (q, n, d) in enumerate(cases)], schema=shape
        ))  # fmt: skip
        found = session.rows("SELECT converted(q, n, d) FROM cases ORDER BY place")
        for (quantity, n, d), (got,) in zip(cases, found, strict=True):
            whole = Fraction(quantity) * n / d * 10**9
            right = (Decimal(whole.numerator) / Decimal(whole.denominator)).quantize(Decimal(1), ROUND_HALF_UP)
            right = right.scaleb(-9)
            assert got == right if abs(right) < 10**19 else got is None
