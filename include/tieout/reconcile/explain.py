"""Breaks and matches as people read them: a sentence, the parts of a difference, the next action, the owner."""

from __future__ import annotations

import re

from tieout.reconcile.definition import BREAK_TYPES, Definition
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES
from tieout.reconcile.sql import AMOUNT, digits_of, minor_unit, text

# A bracket is dropped where one of its placeholders has no value.
SENTENCES: dict[str, str] = {
    "missing_left": "{record} {key}[ of {label}][ over {amount}] is in {right_name} but not in {left_name}.",
    "missing_right": "{record} {key}[ of {label}][ over {amount}] is in {left_name} but not in {right_name}.",
    "duplicate": "{record} {key}[ of {label}] is there more than once: {left_rows} in {left_name}[ ({left_amount})], "
    "{right_rows} in {right_name}[ ({right_amount})].",
    "amount": "{record} {key}[ of {label}]: {field} is {left_value} in {left_name} but {right_value} in {right_name}"
    "[, a difference of {difference}][ ({parts})].",
    "currency": "{record} {key}[ of {label}] is in {left_value} in {left_name} but in {right_value} in {right_name}"
    "[ ({left_amount} against {right_amount})].",
    "timing": "{record} {key}[ of {label}][ over {amount}][ is in {present_name} and still expected in {absent_name}]"
    "[ is dated {left_value} in {left_name} and {right_value} in {right_name}].",
    "cut_off": "{record} {key}[ of {label}][ over {amount}] belongs to {left_period} in {left_name} but to "
    "{right_period} "
    "in {right_name}.",
    "status": "{record} {key}[ of {label}][ over {amount}]: {field} is {left_value} in {left_name} but "
    "{right_value} in "
    "{right_name}.",
    "attribute": "{record} {key}[ of {label}]: {field} is {left_value} in {left_name} but {right_value} in "
    "{right_name}.",
    "mapping": "{record} {key}[ of {label}][ over {amount}] cannot be processed: {reason}.",
    "orphan": "{record} {key}[ of {label}][ over {amount}] belongs to nothing known: {reason}.",
    "ambiguous": "{record} {key}[ of {label}][ over {amount}] fits more than one counterpart: {rivals}.",
    "suggested_match": "{record} {key}[ of {label}][ over {amount}] probably belongs to {counterpart}[ ({probability})]"
    "[; {rivals} would fit too].",
}
ACTIONS: dict[str, str] = {
    "missing_left": "Find out why {left_name} has no such record; record it there, or void it in {right_name}.",
    "missing_right": "Find out why it never reached {right_name}; record it there, or void it in {left_name}.",
    "duplicate": "Keep one record and reverse or delete the surplus one.",
    "amount": "Compare both records and correct the wrong one.",
    "currency": "Correct the currency in the system that has it wrong; the amounts cannot be compared before.",
    "timing": "Wait: it should clear by itself. It becomes a missing record if it does not.",
    "cut_off": "Decide which period it belongs to and post a correction; this does not clear by itself.",
    "status": "Bring the system that lags behind to the right state.",
    "attribute": "Correct the field in the system that does not own it.",
    "mapping": "Add the missing mapping, then run again.",
    "orphan": "Find the record it should belong to and correct the reference.",
    "ambiguous": "Decide which of the candidates it belongs to.",
    "suggested_match": "Accept or reject the suggestion.",
}
PARTS = ("fx", "tax", "fee", "withholding", "rounding", "partial_payment", "timing", "unexplained")
_TOKEN = re.compile(r"\[([^\[\]]*)\]|\{([a-z_]+)\}|([^\[\]{}]+)")
_IDS_SHOWN = 50


def explain(session: Session, definition: Definition, *, identical: bool, aside: str | None = None) -> None:
    """Make `breaks` and `matches` from the groups, with everything people and data teams read.

    Matches whose compared fields are all equal are listed only if `identical`; `aside` is a query for more of them,
    which are in no group. They are read when `matches` is, not kept.
    """
    listed = "true" if identical else "g.break_type IS NOT NULL OR g.tolerated IS NOT NULL"
    for side in SIDES:
        session.make(f"{side}_members", _members(side, listed))
    session.make("priced", _priced(definition))
    session.make("worded", _worded(definition))
    session.make("breaks", _breaks(definition))
    if aside is None:
        session.make("matches", _matches(definition))
    else:
        session.make("grouped_matches", _matches(definition))
        session.run("matches", f"CREATE TEMP VIEW matches AS\nFROM grouped_matches UNION ALL BY NAME\n{aside}")


def _members(side: str, listed: str) -> str:
    """The ids of each group's rows; a very large group shows the first ones and how many more there are.

    Most groups have one row, which needs no list: lists of millions of groups would not fit into memory.
    """
    members = f"{side}_links JOIN {side}_rows USING (row_no) JOIN groups g USING (group_id)"
    return (
        f"SELECT group_id, id AS ids FROM {members} WHERE g.{side}_rows = 1 AND ({listed})\n"
        f"UNION ALL\nSELECT group_id, array_to_string(min(id, {_IDS_SHOWN}), '; ') || CASE WHEN count(*) > {_IDS_SHOWN}"
        f" THEN '; and ' || (count(*) - {_IDS_SHOWN}) || ' more' ELSE '' END\n"
        f"FROM {members} WHERE g.{side}_rows > 1 AND ({listed}) GROUP BY group_id"
    )


def _priced(definition: Definition) -> str:
    """Groups of breaks with the parts of their difference and what is at stake."""
    currency = "coalesce(left_currency, right_currency)"
    limit = f"{definition.rounding_minor_units} * greatest(left_rows, right_rows) * ({minor_unit(currency)})"
    is_timing = "break_type IN ('timing', 'cut_off')"
    # tax rounded by line here and on the total there is no other tax, only another rounding
    amounts = {p: p for p in ("fx", "fee", "withholding")} | {"tax": "coalesce(tax, 0) - coalesce(tax_rounding, 0)"}
    amounts["tax_rounding"] = "tax_rounding"
    known = [
        f"CASE WHEN break_type = 'amount' THEN coalesce({amount}, 0) ELSE 0 END::{AMOUNT} AS known_{part}"
        for part, amount in amounts.items()
    ]
    explained = " - ".join(f"known_{part}" for part in amounts)
    rest = f"CASE WHEN {is_timing} THEN 0 ELSE difference - {explained} END::{AMOUNT} AS rest"
    # what is not paid yet, unless deductions already explain more than the whole difference
    partial = "break_type = 'amount' AND coalesce(is_partial, false) AND sign(rest) = sign(difference)"
    larger = "greatest(abs(left_amount), abs(right_amount)), abs(left_amount), abs(right_amount)"
    # rivals are listed, not at stake: only one of them will be the counterpart
    claim = (
        "CASE WHEN break_type = 'ambiguous' THEN abs(CASE named WHEN 'left' THEN left_amount ELSE right_amount END) END"
    )
    # no single amount is at stake where the sides are in two currencies: the sentence shows both
    value = (
        f"CASE WHEN left_currency <> right_currency THEN NULL ELSE coalesce({claim}, nullif(abs(difference), 0), "
        f"{larger}) END"
    )
    parts = {part: f"known_{part}" for part in ("fx", "tax", "fee", "withholding")} | {
        "timing": f"CASE WHEN {is_timing} THEN difference ELSE 0 END",
        "partial_payment": "CASE WHEN falls_short THEN rest ELSE 0 END",
        "rounding": "known_tax_rounding + CASE WHEN is_rounding THEN rest ELSE 0 END",
        "unexplained": "CASE WHEN falls_short OR is_rounding THEN 0 ELSE rest END",
    }
    columns = [f"CASE WHEN difference IS NOT NULL THEN {parts[part]} END::{AMOUNT} AS part_{part}" for part in PARTS]
    columns += [
        f"{value} AS value",
        f"CASE WHEN left_currency <> right_currency THEN NULL ELSE {currency} END AS currency",
    ]
    columns.append("least(left_date, right_date) AS economic_date")
    columns += [f"{digits_of(f'{side}_currency')} AS {side}_digits" for side in SIDES]
    listed = ",\n  ".join(columns)
    of_known = ",\n    ".join(known)
    # one level of columns on the other: a column is named where its expression would be copied
    small = f"break_type = 'amount' AND abs(rest) <= {limit}"
    judged = f"coalesce({partial}, false) AS falls_short, coalesce({small}, false) AS is_small"
    return (
        f"SELECT * EXCLUDE (rest, falls_short, is_small, is_rounding, {', '.join(f'known_{p}' for p in amounts)}),\n"
        f"  {listed}\nFROM (SELECT *, is_small AND NOT falls_short AS is_rounding FROM (\n"
        f"  SELECT *, {judged}\n  FROM (SELECT *, {rest} FROM (\n"
        f"    SELECT *,\n    {of_known}\n    FROM groups WHERE break_type IS NOT NULL))))"
    )


def _worded(definition: Definition) -> str:
    """Priced breaks with the words that sentences and actions are made of."""
    named_parts = {p: p.replace("_", " ").replace("fx", "exchange rate") for p in PARTS}
    named = "CASE WHEN named = 'left' THEN {} ELSE {} END"
    left, right = definition.left, definition.right
    digits = "CASE WHEN left_currency IS NULL THEN right_digits ELSE left_digits END"
    sides = {f"{side}_amount": (f"{side}_amount", f"{side}_currency", f"{side}_digits") for side in SIDES}
    # signed as the difference is shown, so that the parts add up to it, and without its amount where one part is all of
    # it
    signed = (
        "CASE WHEN part_{0} NOT IN (0, difference) THEN CASE WHEN difference < 0 THEN -part_{0} ELSE part_{0} END END"
    )
    amounts = sides | {
        "value": ("value", "currency", digits),
        "difference": ("CASE WHEN difference <> 0 THEN abs(difference) END", "currency", digits),
        **{f"part_{p}": (signed.format(p), "currency", digits) for p in PARTS},
    }
    places = {word: f"amounts[{place}]" for place, word in enumerate(amounts, 1)}
    shown_parts = ", ".join(
        f"CASE WHEN part_{p} <> 0 THEN {text(n)} || coalesce(' ' || {places[f'part_{p}']}, '') END"
        for p, n in named_parts.items()
    )
    words = {
        "key": "group_key",
        "entity": "entity",
        "label": "label",
        "record": named.format(text(left.record), text(right.record)),
        "amount": named.format(
            f"coalesce({places['left_amount']}, {places['right_amount']})",
            f"coalesce({places['right_amount']}, {places['left_amount']})",
        ),
        "value": places["value"],
        "difference": places["difference"],
        "parts": f"nullif(concat_ws(', ', {shown_parts}), '')",
        "field": "replace(field, '_', ' ')",
        "reason": "coalesce(reason, 'no reference')",
        "rivals": "rivals",
        "probability": "round(probability * 100, 1)::DECIMAL(4,1) || ' %'",
        "counterpart": "CASE WHEN named = 'left' THEN r.ids ELSE l.ids END",
        "present_name": f"CASE WHEN right_rows = 0 THEN {text(left.name)} WHEN left_rows = 0 THEN "
        f"{text(right.name)} END",
        "absent_name": f"CASE WHEN right_rows = 0 THEN {text(right.name)} WHEN left_rows = 0 THEN "
        f"{text(left.name)} END",
    }
    for side in SIDES:
        words |= {
            f"{side}_name": text(getattr(definition, side).name),
            f"{side}_record": text(getattr(definition, side).record),
            f"{side}_rows": f"format('{{:,}}', {side}_rows)",
            f"{side}_amount": places[f"{side}_amount"],
            f"{side}_value": f"coalesce({side}_value, CASE WHEN field IS NOT NULL THEN 'empty' END)",
            f"{side}_date": f"{side}_date::VARCHAR",
            f"{side}_period": f"{side}_period",
        }
    listed = ",\n  ".join(f"{expression} AS w_{word}" for word, expression in words.items())
    # one formatting expression for all amounts: each copy of it costs the engine planning time
    fields = ", ".join(f"{{'a': {a}::{AMOUNT}, 'c': {c}, 'd': {d}}}" for a, c, d in amounts.values())
    shown = f"list_transform([{fields}], lambda m: CASE WHEN m.a IS NOT NULL THEN money(m.a, m.c, m.d) END)"
    return (
        "SELECT p.* EXCLUDE (amounts), coalesce(l.ids, '') AS left_ids, coalesce(r.ids, '') AS right_ids,\n"
        f"  {listed}\n"
        f"FROM (SELECT *, {shown} AS amounts FROM priced) p\n"
        "LEFT JOIN left_members l USING (group_id) LEFT JOIN right_members r USING (group_id)"
    )


def _template(template: str) -> str:
    """SQL that fills a sentence's placeholders; text in brackets vanishes where a placeholder in it has no value."""
    pieces = []
    for bracket, word, plain in _TOKEN.findall(template):
        if bracket:
            pieces.append(f"coalesce({_concatenated(bracket)}, '')")
        else:
            pieces.append(text(plain) if plain else f"coalesce(w_{word}, '–')")
    return " || ".join(pieces)


def _concatenated(template: str) -> str:
    return " || ".join(text(plain) if plain else f"w_{word}" for _, word, plain in _TOKEN.findall(template))


def _by_type(texts: dict[str, str]) -> str:
    return f"CASE break_type {' '.join(f'WHEN {text(t)} THEN {expression}' for t, expression in texts.items())} END"


def _breaks(definition: Definition) -> str:
    sentences = {t: _template(definition.sentences.get(t, SENTENCES[t])) for t in BREAK_TYPES}  # type: ignore[call-overload]
    actions = {t: _template(definition.actions.get(t, ACTIONS[t])) for t in BREAK_TYPES}  # type: ignore[call-overload]
    owners = {t: text(definition.owner(t)) for t in BREAK_TYPES}
    limits = " ".join(f"WHEN {text(c)} THEN {v:f}" for c, v in sorted(definition.materiality.items()) if c != "default")
    default = f"{definition.materiality.get('default', 0):f}"
    limit = f"CASE currency {limits} ELSE {default} END" if limits else default
    plain = [
        "break_type",
        "pass_name",
        "field",
        "currency",
        "left_rows",
        "right_rows",
        "left_amount",
        "right_amount",
        "difference",
        "value",
        "left_value",
        "right_value",
        "left_date",
        "right_date",
        "left_period",
        "right_period",
        "economic_date",
        "label",
        "reason",
        "rivals",
        "probability",
        "left_ids",
        "right_ids",
    ]
    columns = [f"{text(definition.id)} AS definition_id", "entity AS legal_entity_id", "group_key AS break_key"]
    order = "left_rows = 0, break_type, left_currency, right_currency, group_id"
    columns.append(f"row_number() OVER (PARTITION BY entity, group_key ORDER BY {order}) AS ordinal")
    columns += plain + [f"part_{p}" for p in PARTS]
    columns.append(f"coalesce(value >= {limit}, true) AS is_material")
    said = {"sentence": sentences, "next_action": actions}
    columns += [f"{_by_type(owners)} AS owner", *(f"{_by_type(texts)} AS {column}" for column, texts in said.items())]
    capital = ", ".join(f"upper({column}[1]) || {column}[2:] AS {column}" for column in said)
    listed = ",\n  ".join(columns)
    return f"SELECT * REPLACE ({capital})\nFROM (SELECT {listed}\nFROM worded)"


def _matches(definition: Definition) -> str:
    return (
        f"SELECT {text(definition.id)} AS definition_id, entity AS legal_entity_id, pass_name, group_key AS "
        "match_key,\n"
        "  row_number() OVER (PARTITION BY pass_name, entity, group_key ORDER BY group_id) AS ordinal,\n"
        "  left_currency AS currency, left_rows, right_rows, left_amount, right_amount, difference, tolerated,\n"
        "  probability, l.ids AS left_ids, r.ids AS right_ids\n"
        "FROM groups JOIN left_members l USING (group_id) JOIN right_members r USING (group_id)\nWHERE "
        "break_type IS NULL"
    )
