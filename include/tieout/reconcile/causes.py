"""What explains a difference of amounts: deductions, exchange rates, and tax rounded by line or on the total.

Every part is left − right, so that the parts of a difference add up to it, and swapped sides give the same with the
sign changed.
"""

from __future__ import annotations

from tieout.reconcile.definition import Definition
from tieout.reconcile.sql import AMOUNT, NUMBER, digits_of, name, text


def cause_columns(definition: Definition, side_name: str) -> list[tuple[str, str, str]]:
    """What a side must have: (role, column, `amount`, `number` or `any`)."""
    wanted = []
    for deduction in definition.deductions:
        column = getattr(deduction, side_name)
        wanted += [(f"deductions {deduction.part}", column, "amount")] if column else []
    if definition.conversions:
        conversion = getattr(definition.conversions, side_name)
        wanted += [("conversions amount", conversion.amount, "amount"), ("conversions rate", conversion.rate, "number")]
        wanted += [("conversions source", conversion.source, "any")] if conversion.source else []
    if definition.tax_lines and definition.tax_lines.side == side_name:
        wanted += [("tax_lines net", definition.tax_lines.net, "amount")]
        wanted += [("tax_lines rate", definition.tax_lines.rate, "number")]
    return wanted


def standard_causes(definition: Definition, side_name: str) -> dict[str, str]:
    """Columns of a side's standard rows that explain differences."""
    columns = {}
    for number, deduction in enumerate(definition.deductions):
        column = getattr(deduction, side_name)
        columns[f"deducted_{number}"] = f"{name(column)}::{AMOUNT}" if column else f"0::{AMOUNT}"
    if definition.conversions:
        conversion = getattr(definition.conversions, side_name)
        columns["converted"] = f"{name(conversion.amount)}::{AMOUNT}"
        columns["rate"] = f"{name(conversion.rate)}::{NUMBER}"
        columns["rate_source"] = f"{name(conversion.source)}::VARCHAR" if conversion.source else "NULL::VARCHAR"
    if definition.tax_lines and definition.tax_lines.side == side_name:
        columns["taxed"] = f"{name(definition.tax_lines.net)}::{AMOUNT}"
        columns["tax_rate"] = f"{name(definition.tax_lines.rate)}::{NUMBER}"
    return columns


def grouped_causes(definition: Definition, side_name: str) -> dict[str, tuple[str, str]]:
    """The same of a single row and for all rows of a key: sums, and a rate only where all rows have one."""
    columns = {
        f"deducted_{n}": (f"coalesce(deducted_{n}, 0)", f"coalesce(sum(deducted_{n}), 0)")
        for n in range(len(definition.deductions))
    }
    if definition.conversions:
        columns["converted"] = ("converted", "sum(converted)")
        columns["rate"] = ("rate", "CASE WHEN min(rate) = max(rate) AND count(rate) = count(*) THEN min(rate) END")
        columns["rate_source"] = ("rate_source", "string_agg(DISTINCT rate_source, ', ' ORDER BY rate_source)")
    if definition.tax_lines and definition.tax_lines.side == side_name:
        one_rate = "min(tax_rate) = max(tax_rate) AND count(tax_rate) = count(*)"
        by_line = _rounded(f"taxed * {_factor('tax_rate')}", "currency")
        on_total = _rounded(f"sum(taxed) * {_factor('min(tax_rate)')}", "min(currency)")
        columns["tax_by_line"] = (by_line, f"CASE WHEN {one_rate} THEN sum({by_line}) END")
        columns["tax_on_total"] = (by_line, f"CASE WHEN {one_rate} THEN {on_total} END")
    return columns


def explaining(definition: Definition) -> dict[str, str]:
    """Columns of the groups table that say what a difference of joined groups `g` is made of."""
    first = definition.first_amount
    if first is None:
        return {}
    taxes = [c for c in definition.compare if c.part == "tax"]
    on_amount = f"g.field = {text(first.name)}"
    columns = {}
    if taxes:
        apart = {c.name: f"coalesce(g.left_is_{c.name} - g.right_is_{c.name}, 0)" for c in taxes}
        # all of them explain the amount, where that differs; otherwise the one that differs first explains itself
        by_field = " ".join(f"WHEN g.field = {text(tax)} THEN {size}" for tax, size in apart.items())
        columns["tax"] = f"CASE WHEN {on_amount} THEN {' + '.join(apart.values())} {by_field} ELSE 0 END"
    for part in ("fee", "withholding"):
        # a side that is reduced by a deduction lacks that much
        parts = [
            f"g.right_deducted_{n} - g.left_deducted_{n}" for n, d in enumerate(definition.deductions) if d.part == part
        ]
        if parts:
            columns[part] = f"CASE WHEN {on_amount} THEN {' + '.join(parts)} ELSE 0 END"
    reasons = []
    if definition.conversions:
        columns["fx"] = f"CASE WHEN {on_amount} THEN coalesce({_by_rates()}, 0) ELSE 0 END"
        said = [
            f"plain(g.{side}_rate) || coalesce(' (' || g.{side}_rate_source || ')', '') || "
            + text(f" in {getattr(definition, side).name}")
            for side in ("left", "right")
        ]
        reasons.append(
            f"CASE WHEN {on_amount} AND g.left_rate <> g.right_rate THEN 'rate ' || {said[0]} || ', ' || {said[1]} END"
        )
    if definition.tax_lines:
        lines = definition.tax_lines.side
        by_line, on_total = f"g.{lines}_tax_by_line", f"g.{lines}_tax_on_total"
        left, right = (" + ".join(f"g.{side}_is_{c.name}" for c in taxes) for side in ("left", "right"))
        # of several taxes none is by itself what the lines add up to
        on_tax = f" OR g.field = {text(taxes[0].name)}" if len(taxes) == 1 else ""
        ways = f"{by_line} <> {on_total} AND ({on_amount}{on_tax})"
        left_by_line = f"{ways} AND {left} = {by_line} AND {right} = {on_total}"
        right_by_line = f"{ways} AND {left} = {on_total} AND {right} = {by_line}"
        columns["tax_rounding"] = f"CASE WHEN ({left_by_line}) OR ({right_by_line}) THEN {left} - ({right}) ELSE 0 END"
        names = definition.left.name, definition.right.name
        said = [text(f"tax is rounded by line in {a} and on the total in {b}") for a, b in (names, names[::-1])]
        reasons.append(f"CASE WHEN {left_by_line} THEN {said[0]} WHEN {right_by_line} THEN {said[1]} END")
    if reasons:
        columns["reason"] = f"nullif(concat_ws('; ', {', '.join(reasons)}), '')"
    return columns


def _by_rates() -> str:
    """What the difference of rates makes of the amount that both sides converted: the lesser, where they differ."""
    common = (
        "CASE WHEN sign(g.left_converted) = sign(g.right_converted) THEN "
        "CASE WHEN abs(g.left_converted) <= abs(g.right_converted) THEN g.left_converted ELSE g.right_converted END END"
    )
    return _rounded(f"({common}) * (g.left_rate - g.right_rate)", "g.left_currency")


def _factor(percent: str) -> str:
    return f"({percent} * 0.01::DECIMAL(3,2))"


def _rounded(expression: str, currency: str) -> str:
    """An amount at its currency's minor unit, half away from zero."""
    cases = " ".join(f"WHEN {digits} THEN round({expression}, {digits})::{AMOUNT}" for digits in (0, 3, 4))
    return f"CASE ({digits_of(currency)}) {cases} ELSE round({expression}, 2)::{AMOUNT} END"
