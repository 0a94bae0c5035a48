"""Breaks and matches as people read them: a sentence, the parts of a difference, the next action, the owner."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from tieout.reconcile.definition import BreakType, Definition
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
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_TYPES: tuple[BreakType, ...] = get_args(BreakType)
_IDS_SHOWN = 50
_AS_THEY_ARE = (
    "break_type", "pass_name", "field", "currency", "left_rows", "right_rows", "left_amount", "right_amount",
    "difference", "value", "left_value", "right_value", "left_date", "right_date", "left_period", "right_period",
    "economic_date", "label", "reason", "rivals", "probability", "left_ids", "right_ids",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Found:
    """What groups of one type need besides themselves."""

    members: bool
    """The ids of their rows, which the pass did not give."""
    repeated: bool
    """Their place among those of one key."""
    currencies: frozenset[str]

    @property
    def ordinal(self) -> str:
        return "coalesce(k.ordinal, 1)" if self.repeated else "1::BIGINT"

    @property
    def source(self) -> str:
        keys = " LEFT JOIN repeated_keys k ON k.group_id = g.group_id" if self.repeated else ""
        return f"groups g{keys}{_ids(self.members)[2]}"


_NOTHING = _Found(False, False, frozenset())


def explain(session: Session, definition: Definition, *, identical: bool, aside: str | None = None) -> tuple[str, str]:
    """The queries for the matches and the breaks of the groups, with everything people and data teams read.

    Matches whose compared fields are all equal are listed only if `identical`; `aside` is a query for more of them,
    which are in no group. A million worded breaks are read once and need not be kept; and no views, which the engine
    would plan once more.
    """
    listed = "true" if identical else "(g.break_type IS NOT NULL OR g.tolerated IS NOT NULL)"
    lacking = "bool_or(left_rows > 0 AND left_ids IS NULL OR right_rows > 0 AND right_ids IS NULL)"
    kinds = dict(session.rows(f"SELECT break_type, {lacking} FROM groups g WHERE {listed} GROUP BY 1"))
    if any(kinds.values()):
        for side in SIDES:
            session.make(f"{side}_members", _members(side, listed))
    session.make("repeated_keys", _repeated_keys(definition, listed, members=any(kinds.values())))
    repeated = bool(session.rows("SELECT 1 FROM repeated_keys LIMIT 1"))
    found = {kind: _Found(members, repeated, session.currencies) for kind, members in kinds.items()}
    # each type by itself: of fifty words and parts it needs a handful, and the engine plans and computes what is there
    worded = [_breaks(definition, t, found[t]) for t in _TYPES if t in kinds]
    nothing = f"FROM ({_breaks(definition, _TYPES[0], _NOTHING)}) WHERE false"
    breaks = "\nUNION ALL\n".join(worded or [nothing])
    matches = [_matches(definition, listed, found.get(None, _NOTHING)), *([aside] if aside else [])]
    return "\nUNION ALL BY NAME\n".join(matches), breaks


def _members(side: str, listed: str) -> str:
    """The ids of each group's rows; a break of very many shows the first ones and how many more there are.

    A match and what is suggested as one list all: what settled a row, or would, must be known. Most groups have one
    row, which needs no list: lists of millions of groups would not fit into memory.
    """
    members = f"{side}_links JOIN {side}_rows USING (row_no) JOIN groups g USING (group_id)"
    lacking = f"g.{side}_ids IS NULL AND {listed}"
    together = "(g.break_type IS NULL OR g.break_type = 'suggested_match')"
    return (
        f"SELECT group_id, id AS ids FROM {members} WHERE g.{side}_rows = 1 AND {lacking}\n"
        f"UNION ALL\nSELECT group_id, array_to_string(list_sort(list(id)), '; ')\n"
        f"FROM {members} WHERE g.{side}_rows > 1 AND {lacking} AND {together} GROUP BY group_id\n"
        f"UNION ALL\nSELECT group_id, array_to_string(min(id, {_IDS_SHOWN}), '; ') || CASE WHEN count(*) > {_IDS_SHOWN}"
        f" THEN '; and ' || (count(*) - {_IDS_SHOWN}) || ' more' ELSE '' END\n"
        f"FROM {members} WHERE g.{side}_rows > 1 AND {lacking} AND NOT {together} GROUP BY group_id"
    )


def _ids(members: bool) -> tuple[str, str, str]:
    """The ids of a group's rows on either side, and the joins they need."""
    if not members:
        return "g.left_ids", "g.right_ids", ""
    joins = "".join(f" LEFT JOIN {side}_members {side[0]} ON {side[0]}.group_id = g.group_id" for side in SIDES)
    return "coalesce(g.left_ids, l.ids)", "coalesce(g.right_ids, r.ids)", joins


def _repeated_keys(definition: Definition, listed: str, *, members: bool) -> str:
    """The place of each group among those of its entity and key, where there are several: breaks, and a pass's matches.

    Few are, so they are looked for by the key's hash: numbering a million groups costs more than wording them.
    """
    left, right, joins = _ids(members)
    group = "hash(g.break_type IS NULL, g.entity, g.group_key)"
    passes = ", ".join(text(p.name) for p in definition.passes)
    order = (
        f"left_rows = 0, break_type, left_currency, right_currency, list_position([{passes}], pass_name),\n"
        "  CASE named WHEN 'left' THEN left_ids ELSE right_ids END, left_ids, right_ids, group_id"
    )
    return (
        "SELECT group_id, row_number() OVER (PARTITION BY break_type IS NULL, of_pass, entity, group_key\n"
        f"  ORDER BY {order}) AS ordinal\nFROM (\n"
        "  SELECT g.* EXCLUDE (left_ids, right_ids), CASE WHEN g.break_type IS NULL THEN g.pass_name END AS of_pass,\n"
        f"    {left} AS left_ids, {right} AS right_ids\n"
        f"  FROM groups g SEMI JOIN (SELECT {group} AS h FROM groups g WHERE {listed} GROUP BY 1 HAVING count(*) > 1) s"
        f"\n    ON s.h = {group}{joins}\n  WHERE {listed}\n)"
    )


def _priced(definition: Definition, kind: str, found: _Found) -> str:
    """The groups of one type of break with the parts of their difference and what is at stake."""
    left, right, _ = _ids(found.members)
    currency = "coalesce(left_currency, right_currency)"
    zero = f"CASE WHEN difference IS NOT NULL THEN 0::{AMOUNT} END"
    parts = dict.fromkeys(PARTS, zero) | {"timing" if kind in ("timing", "cut_off") else "unexplained": "difference"}
    source = (
        f"SELECT g.* EXCLUDE (left_ids, right_ids), coalesce({left}, '') AS left_ids,"
        f" coalesce({right}, '') AS right_ids,\n    {found.ordinal} AS ordinal\n"
        f"  FROM {found.source}\n  WHERE break_type = {text(kind)}"
    )
    if kind == "amount":
        parts, source = _parts_of_amounts(definition, currency, source)
    # rivals are listed, not at stake: only one of them will be the counterpart
    claim = "abs(CASE named WHEN 'left' THEN left_amount ELSE right_amount END), " if kind == "ambiguous" else ""
    larger = "greatest(abs(left_amount), abs(right_amount)), abs(left_amount), abs(right_amount)"
    # no single amount is at stake where the sides are in two currencies: the sentence shows both
    value = f"coalesce({claim}nullif(abs(difference), 0), {larger})"
    columns = [f"{expression} AS part_{part}" for part, expression in parts.items()]
    columns += [
        f"CASE WHEN left_currency <> right_currency THEN NULL ELSE {value} END AS value",
        f"CASE WHEN left_currency <> right_currency THEN NULL ELSE {currency} END AS currency",
        "least(left_date, right_date) AS economic_date",
    ]
    columns += [f"{digits_of(f'{side}_currency', found.currencies)} AS {side}_digits" for side in SIDES]
    # the amount of the side that names the break, or of the other where that has none
    has = {s: f"{s}_amount IS NOT NULL AND {s}_currency IS NOT NULL" for s in SIDES}
    of_left = f"CASE named WHEN 'left' THEN {has['left']} ELSE NOT ({has['right']}) END"
    columns += [f"CASE WHEN {of_left} THEN left_{c} ELSE right_{c} END AS shown_{c}" for c in ("amount", "currency")]
    columns.append(f"{digits_of('shown_currency', found.currencies)} AS shown_digits")
    return f"SELECT *,\n    {', '.join(columns)}\n  FROM (\n  {source}\n  )"


def _parts_of_amounts(definition: Definition, currency: str, source: str) -> tuple[dict[str, str], str]:
    """What a difference of amounts is made of, and the source with what that is worked out from.

    One level of columns on the other: a column is named where its expression would be copied.
    """
    limit = f"{definition.rounding_minor_units} * greatest(left_rows, right_rows) * ({minor_unit(currency)})"
    # tax rounded by line here and on the total there is no other tax, only another rounding
    amounts = {p: f"coalesce({p}, 0)" for p in ("fx", "fee", "withholding", "tax_rounding")}
    amounts["tax"] = "coalesce(tax, 0) - coalesce(tax_rounding, 0)"
    levels = (
        ", ".join(f"({amount})::{AMOUNT} AS known_{part}" for part, amount in amounts.items()),
        f"(difference - {' - '.join(f'known_{part}' for part in amounts)})::{AMOUNT} AS rest",
        # what is not paid yet, unless deductions already explain more than the whole difference
        "coalesce(is_partial AND sign(rest) = sign(difference), false) AS falls_short,"
        f" coalesce(abs(rest) <= {limit}, false) AS is_small",
        "is_small AND NOT falls_short AS is_rounding",
    )
    for level in levels:
        source = f"SELECT *, {level} FROM ({source})"
    parts = dict.fromkeys(PARTS, "0") | {part: f"known_{part}" for part in ("fx", "tax", "fee", "withholding")}
    parts |= {
        "partial_payment": "CASE WHEN falls_short THEN rest ELSE 0 END",
        "rounding": "known_tax_rounding + CASE WHEN is_rounding THEN rest ELSE 0 END",
        "unexplained": "CASE WHEN falls_short OR is_rounding THEN 0 ELSE rest END",
    }
    return {p: f"CASE WHEN difference IS NOT NULL THEN {parts[p]} END::{AMOUNT}" for p in PARTS}, source


def _words(definition: Definition) -> dict[str, str]:
    """What placeholders of sentences and actions stand for, over priced breaks."""
    digits = "CASE WHEN left_currency IS NULL THEN right_digits ELSE left_digits END"
    named_parts = {p: p.replace("_", " ").replace("fx", "exchange rate") for p in PARTS}
    listed_parts = ", ".join(f"{{'name': {text(n)}, 'amount': part_{p}}}" for p, n in named_parts.items())
    # signed as the difference is shown, so that the parts add up to it, and without its amount where one part is all of
    # it; one formatting expression for all parts: each copy of it costs the engine planning time
    signed = "CASE WHEN difference < 0 THEN -p.amount ELSE p.amount END"
    shown_parts = (
        f"array_to_string(list_transform(list_filter([{listed_parts}], lambda p: p.amount <> 0), "
        f"lambda p: p.name || CASE WHEN p.amount = difference THEN '' "
        f"ELSE ' ' || {_exact_money('(' + signed + ')', digits)} END), ', ')"
    )
    named = "CASE WHEN named = 'left' THEN {} ELSE {} END"
    left, right = definition.left, definition.right
    words = {
        "key": "group_key",
        "entity": "entity",
        "label": "label",
        "record": named.format(text(left.record), text(right.record)),
        "amount": "money(shown_amount, shown_currency, shown_digits)",
        "value": f"money(value, currency, {digits})",
        "difference": f"CASE WHEN difference <> 0 THEN {_exact_money('abs(difference)', digits)} END",
        "parts": f"nullif({shown_parts}, '')",
        "field": "replace(field, '_', ' ')",
        "reason": "coalesce(reason, 'no reference')",
        "rivals": "rivals",
        "working": "working",
        "probability": "round(probability * 100, 1)::DECIMAL(4,1) || ' %'",
        "counterpart": "CASE WHEN named = 'left' THEN nullif(right_ids, '') ELSE nullif(left_ids, '') END",
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
            f"{side}_amount": f"money({side}_amount, {side}_currency, {side}_digits)",
            f"{side}_value": f"coalesce({side}_value, CASE WHEN field IS NOT NULL THEN 'empty' END)",
            f"{side}_date": f"{side}_date::VARCHAR",
            f"{side}_period": f"{side}_period",
        }
    return words


def _exact_money(amount: str, digits: str) -> str:
    """A difference as people write it, to its last decimal where it is no whole number of minor units."""
    fine = f"is_finer(difference, {digits})"
    return f"CASE WHEN {fine} THEN finely({amount}, currency) ELSE money({amount}, currency, {digits}) END"


def _template(template: str, words: Mapping[str, str]) -> str:
    """SQL that fills a sentence's placeholders and begins it with a capital.

    Text in brackets vanishes where a placeholder in it has no value.
    """
    pieces = []
    for bracket, word, plain in _TOKEN.findall(template):
        if bracket:
            inner = (text(p) if p else _word(w, words) for _, w, p in _TOKEN.findall(bracket))
            pieces.append(f"({' || '.join(inner)})")
        elif plain:
            pieces.append(text(plain[:1].upper() + plain[1:] if not pieces else plain))
        else:
            found = f"coalesce({_word(word, words)}, '–')"
            pieces += [found] if pieces else [f"upper(left({found}, 1))", f"substr({found}, 2)"]
    sentence = f"concat({', '.join(pieces)})"  # which leaves out what has no value
    return f"concat(upper(left({sentence}, 1)), substr({sentence}, 2))" if template.startswith("[") else sentence


def _word(word: str, words: Mapping[str, str]) -> str:
    return words[word] if _LITERAL.fullmatch(words[word]) else f"w_{word}"


def _breaks(definition: Definition, kind: BreakType, found: _Found) -> str:
    """The breaks of one type as people read them."""
    sentence = definition.sentences.get(kind, SENTENCES[kind])
    action = definition.actions.get(kind, ACTIONS[kind])
    words = _words(definition)
    used = [w for w in words if f"{{{w}}}" in sentence + action and not _LITERAL.fullmatch(words[w])]
    listed = ", ".join(["*", *(f"{words[w]} AS w_{w}" for w in used)])
    limits = " ".join(f"WHEN {text(c)} THEN {v:f}" for c, v in sorted(definition.materiality.items()) if c != "default")
    default = f"{definition.materiality.get('default', 0):f}"
    limit = f"CASE currency {limits} ELSE {default} END" if limits else default
    columns = [f"{text(definition.id)} AS definition_id", "entity AS legal_entity_id", "group_key AS break_key"]
    columns += ["ordinal", *_AS_THEY_ARE, *(f"part_{p}" for p in PARTS)]
    columns += [
        f"coalesce(value >= {limit}, true) AS is_material",
        f"{text(definition.owner(kind))} AS owner",
        f"{_template(sentence, words)} AS sentence",
        f"{_template(action, words)} AS next_action",
    ]
    priced = _priced(definition, kind, found)
    return f"SELECT {', '.join(columns)}\nFROM (\n  SELECT {listed}\n  FROM (\n  {priced}\n  )\n)"


def _matches(definition: Definition, listed: str, found: _Found) -> str:
    left, right, _ = _ids(found.members)
    return (
        f"SELECT {text(definition.id)} AS definition_id, g.entity AS legal_entity_id, g.pass_name,"
        f" g.group_key AS match_key,\n  {found.ordinal} AS ordinal, g.left_currency AS currency,"
        " g.left_rows, g.right_rows, g.left_amount, g.right_amount,\n"
        f"  g.difference, g.tolerated, g.probability, {left} AS left_ids, {right} AS right_ids\n"
        f"FROM {found.source}\n"
        f"WHERE g.break_type IS NULL AND {listed}"
    )
