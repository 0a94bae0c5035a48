"""From a mapping to SQL: JSON text in, typed columns out, and for each record that cannot be read the reason.

Every record gives either rows or one fault `{code, field, value, expected}`; the first fault of a record counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tieout import schema
from tieout.conform.mapping import ColumnMapping, EntityMapping, Form, ObjectMapping
from tieout.errors import ConfigError
from tieout.schema import DUCKDB_TYPES, Column

MAX_TEXT = 4_096
"""Characters a text column may hold; longer is a fault, since no id, number or name of ours is that long."""
MAX_FIELD = 1_048_576
"""Characters any field of a record may hold, mapped or not."""
MINOR_UNIT = "CAST(CASE digits WHEN 0 THEN 1 WHEN 2 THEN 0.01 WHEN 3 THEN 0.001 WHEN 4 THEN 0.0001 END AS DECIMAL(5,4))"

# What mappings may call in their SQL. Decimals are never divided: a quotient of decimals is a float.
MACROS = """
CREATE OR REPLACE TEMP MACRO times(a, b) AS CAST(a AS DECIMAL(19,6)) * CAST(b AS DECIMAL(19,6));
CREATE OR REPLACE TEMP MACRO share_of(amount, parts) AS CAST(
  CAST(CASE WHEN amount < 0 THEN -1 ELSE 1 END * (
    (2 * CAST(abs(CAST(amount AS DECIMAL(34,8))) * 10000 AS HUGEINT) + parts) // (2 * parts)
  ) AS DECIMAL(22,0)) * CAST(0.0001 AS DECIMAL(5,4)) AS DECIMAL(18,4));
"""
"""`times(a, b)` is an exact product to twelve places; `share_of(amount, parts)` one of equal parts, to four places,
half away from zero."""

# A record the landing could not read is told by its words; the field is looked for only in those few records, by the
# place of its value: a key of the vendor's may hold anything and is never put into a path. Bytes in another encoding
# were landed as escapes such as \udce9, by which the field is found.
RAW = r"""
WITH landed AS (
  SELECT
    source || '/' || object || '/' || extract_id || '/' || page_no || '#' || position AS raw_ref,
    fetched_at, record, fault,
    CASE WHEN contains(fault, 'valid Unicode')
      THEN regexp_extract(record, '"([^"]+)"\s*:\s*"([^"]*\\u[dD][89a-fA-F][^"]*)"', ['field', 'value']) END AS odd
  FROM pages
)
SELECT raw_ref, fetched_at, record,
  CASE WHEN fault IS NOT NULL THEN {
    'code': CASE
      WHEN contains(fault, 'NUL character') THEN 'nul_character'
      WHEN contains(fault, 'valid Unicode') OR contains(fault, 'UTF-8') THEN 'wrong_encoding'
      WHEN contains(fault, 'text of more than') THEN 'too_long'
      WHEN contains(fault, 'no JSON') THEN 'not_json'
      ELSE 'unreadable' END,
    'field': CASE
      WHEN odd.field <> '' THEN odd.field
      WHEN NOT json_valid(record) THEN ''
      WHEN contains(fault, 'NUL character') THEN coalesce(json_keys(record)[list_position(
        list_transform(json_extract_string(record, '$.*'), lambda v: contains(v, chr(0))), true)], '')
      WHEN contains(fault, 'text of more than') THEN coalesce(json_keys(record)[list_position(
        list_transform(json_extract_string(record, '$.*'), lambda v: length(v) > 1048576), true)], '')
      ELSE '' END,
    'value': CASE
      WHEN odd.field <> '' THEN odd.value
      WHEN NOT json_valid(record) THEN left(record, 200) END,
    'expected': CASE WHEN odd.field <> '' THEN 'text in UTF-8' ELSE fault END
  } END AS record_fault
FROM landed
"""

CELL = "cell:"
"""What goes before the name of a file's column, so that no file can name one of ours."""

FAULT = "STRUCT(code VARCHAR, field VARCHAR, value VARCHAR, expected VARCHAR)"

_BY_KIND: dict[str, Form] = {
    "text": "text", "int": "int", "bool": "bool", "date": "date",
    "quantity": "decimal", "price": "decimal", "rate": "decimal",
}  # fmt: skip
_EXPECTED: dict[Form, str] = {
    "text": f"text of at most {MAX_TEXT} characters",
    "json": "JSON",
    "currency": "an ISO 4217 currency code",
    "int": "a whole number",
    "bool": "true or false",
    "minor": "a whole number of minor units",
    "minor_sum": "whole numbers of minor units",
    "major": "an amount with at most four decimal places",
    "decimal": "a decimal number",
    "date": "a date such as 2026-03-31",
    "unix": "seconds since 1970",
    "unix_date": "seconds since 1970",
    "unix_day": "seconds since 1970",
    "iso": "an instant such as 2026-03-31T23:59:59Z",
    "iso_date": "an instant such as 2026-03-31T23:59:59Z",
}
_CODES: dict[Form, str] = {
    "text": "too_long", "json": "not_json", "currency": "unknown_currency", "bool": "not_a_boolean",
    "date": "not_a_date", "unix": "not_an_instant", "unix_date": "not_an_instant", "unix_day": "not_an_instant",
    "iso": "not_an_instant", "iso_date": "not_an_instant",
}  # fmt: skip
_LONGEST = {"DECIMAL(18,4)": 14, "DECIMAL(28,9)": 19, "DECIMAL(28,12)": 16, "DECIMAL(18,9)": 9}
_PLACES = {"DECIMAL(18,4)": 4, "DECIMAL(28,9)": 9, "DECIMAL(28,12)": 12, "DECIMAL(18,9)": 9}


@dataclass(frozen=True, slots=True)
class _Value:
    """One value read by path: its name, the SQL of its raw text, of its typed value and of its faults."""

    name: str
    raw: str
    typed: str
    faults: tuple[str, ...]
    form: Form


def typed_rows(
    mapping: ObjectMapping,
    entity_name: str,
    source: str,
    legal_entity: str | None,
    *,
    raw: str = "raw",
    columns: Collection[str] | None = None,
) -> str:
    """SELECT over the view `raw` that gives one entity's columns plus `fault` (struct or null) and `fault_entity`.

    `raw` has raw_ref, record, fetched_at, record_fault; where `columns` is given, the view has the record's fields as
    columns too, named so after CELL, and they are read in place of the JSON. Needs the views `currencies` and
    `legal_entities`. Rows with a fault have null columns where the value could not be read.
    """
    entity, table = mapping.entities[entity_name], schema.table(entity_name)
    own, parent = _Paths("v", None if entity.is_list else columns), _Paths("p", columns)
    values = [
        _value(name, spec, _form(mapping, table[name] if name in table.names else None, spec), own, parent,
               mapping.vendor, table[name] if name in table.names else None)
        for name, spec in (entity.fields | entity.columns).items()
        if spec.path is not None
    ]  # fmt: skip
    computed = {n: s for n, s in (entity.fields | entity.columns).items() if s.sql is not None}
    defaults = _common(mapping, entity, source, legal_entity, own, parent)
    faults = [f for v in values for f in v.faults]
    currency = next((v for v in values if v.name == "currency"), None)
    after = _computed_faults(entity, table.columns, computed)
    lines = [
        "WITH elements AS (",
        f"  SELECT {raw}.*, {'u.element_no' if entity.is_list else '1 AS element_no'}, {_item(entity)} AS item",
        f"  FROM {_elements_from(entity, raw)}",
        "), texts AS (",
        f"  SELECT raw_ref, fetched_at, record_fault, item, element_no, {own.extract('item')} AS v,",
        f"    {parent.extract('record')} AS p",
        "  FROM elements",
        "), cells AS (",
        f"  SELECT {', '.join(['raw_ref, fetched_at, record_fault, item, element_no', *own.cells(), *parent.cells()])}",
        "  FROM texts",
        "), digits AS (",
        "  SELECT t.*, c.code AS currency_code, c.digits",
        f"  FROM cells t LEFT JOIN currencies c ON c.vendor = '{mapping.vendor}'",
        f"    AND c.code = upper({currency.raw if currency else 'NULL'})",
        "), located AS (",
        "  SELECT d.*, le.id AS known_entity, coalesce(le.zone, 'UTC') AS zone,",
        f"    {defaults['legal_entity_id']} AS entity_id",
        f"  FROM digits d LEFT JOIN legal_entities le ON le.id = {defaults['legal_entity_id']}",
        "), typed AS (",
        f"  SELECT {', '.join(['raw_ref, fetched_at, zone, entity_id, element_no', *own.names(), *parent.names()])},",
        f"    {MINOR_UNIT} AS minor_unit,",
        *[f"    {v.typed} AS {_q(v.name)}," for v in values],
        f"    coalesce(record_fault, {', '.join([*faults, _entity_fault()])}) AS read_fault",
        "  FROM located",
        *([] if not computed else [
            "), computed AS (",
            "  SELECT *,",
            *[f"    ({s.sql}) AS {_q(n)}," for n, s in computed.items()],
            "  FROM typed",
        ]),
        ")",
        "SELECT",
        *[f"  {_final(c, entity, defaults)} AS {_q(c.name)}," for c in table.columns],
        f"  coalesce({', '.join(['read_fault', *after]) if after else 'read_fault, NULL'}) AS fault",
        f"FROM {'computed' if computed else 'typed'}",
        # a record that is certainly not meant has no fault here; one that cannot tell keeps the fault it has
        *([f"WHERE ({entity.where}) OR (read_fault IS NOT NULL AND ({entity.where}) IS NULL)"] if entity.where else []),
    ]  # fmt: skip
    return "\n".join(lines)


def record_columns(mapping: ObjectMapping, raw: str = "raw") -> str:
    """SELECT over a view like `raw` that gives each record's id, amount and currency as texts, for the quarantine."""
    identity = mapping.entities[mapping.main].columns["source_id"]
    amount, currency = [*(mapping.value_at_risk or "").split(), "", ""][:2]
    paths = _Paths("v")
    sid = paths.text(identity.paths, identity.prefixes)
    amount_text = paths.text((amount,) if amount else ())
    currency_text = paths.text((currency,) if currency else ())
    return (
        f"SELECT raw_ref, {sid} AS source_id, {amount_text} AS amount_text, upper({currency_text}) AS currency_text "
        f"FROM (SELECT {', '.join(['raw_ref', *paths.cells()])} "
        f"FROM (SELECT raw_ref, {paths.extract('record', 'json_valid(record)')} AS v FROM {raw}))"
    )


class _Paths:
    """The paths read from one JSON text, so that it is parsed once for all of them, or from columns in its place.

    Each is a column of its own, named after the alias and its number, since what reads it names it several times.
    """

    def __init__(self, alias: str, columns: Collection[str] | None = None) -> None:
        self.alias, self._paths, self._columns = alias, list[str](), columns

    def text(self, paths: Sequence[str], prefixes: Sequence[str] = ()) -> str:
        """SQL of the text at the first of the paths that holds one, after its prefix; null where none does.

        The empty text, which CSV exports write for null, is null.
        """
        value = self._first(paths)
        return f"coalesce({self._first(prefixes)} || '#', '') || {value}" if prefixes else value

    def field(self, paths: Sequence[str]) -> str:
        """SQL of the name of the path that `text` reads: the first that holds something, else the first."""
        texts = [self._one(p) for p in paths[1:]] if len(paths) > 1 else []
        later = "".join(f" WHEN {text} IS NOT NULL THEN {_t(p)}" for p, text in zip(paths[1:], texts, strict=True))
        return (
            f"CASE WHEN {self._one(paths[0])} IS NOT NULL THEN {_t(paths[0])}{later} ELSE {_t(paths[0])} END"
            if later
            else _t(paths[0])
        )

    def extract(self, json: str, readable: str = "record_fault IS NULL") -> str:
        if not self._paths:
            return "NULL::VARCHAR[]"
        if self._columns is None:
            listed = ", ".join(_t(json_path(p)) for p in self._paths)
            return f"CASE WHEN {readable} THEN json_extract_string({json}, [{listed}]) END"
        values = (f"CAST({_q(CELL + p)} AS VARCHAR)" if p in self._columns else "NULL::VARCHAR" for p in self._paths)
        return f"[{', '.join(values)}]"

    def cells(self) -> list[str]:
        """SQL of each path's column, over what `extract` gives."""
        return [f"nullif({self.alias}[{n}], '') AS {name}" for n, name in enumerate(self.names(), start=1)]

    def names(self) -> list[str]:
        """The columns of the paths read so far."""
        return [f"{self.alias}{n + 1}" for n in range(len(self._paths))]

    def _first(self, paths: Sequence[str]) -> str:
        texts = [self._one(p) for p in paths]
        return texts[0] if len(texts) == 1 else f"coalesce({', '.join(texts)})" if texts else "NULL"

    def _one(self, path: str) -> str:
        if path not in self._paths:
            self._paths.append(path)
        return f"{self.alias}{self._paths.index(path) + 1}"


def json_path(path: str) -> str:
    """`lines.data[*].id` to DuckDB's JSON path, each key quoted."""
    steps = []
    for part in path.split("."):
        key, bracket, rest = part.partition("[")
        steps.append(f'."{key}"{bracket}{rest}')
    return "$" + "".join(steps)


def _value(
    name: str, spec: ColumnMapping, form: Form, own: _Paths, parent: _Paths, vendor: str, column: Column | None
) -> _Value:
    source, paths = own, spec.paths
    if paths[0].startswith("^"):
        source, paths = parent, (paths[0][1:],)
    if form == "minor_sum":
        return _sum_value(name, paths[0], "item")
    raw, path = source.text(paths, spec.prefixes), source.field(paths)
    if spec.default is not None:
        raw = f"coalesce({raw}, {_t(spec.default)})"
    typed, good = _typed(form, raw, column)
    faults = []
    required = spec.required if spec.required is not None else bool(column and column.required and name != "is_deleted")
    if required:
        faults.append(_fault(f"{raw} IS NULL", "missing", path, "NULL", "a value"))
    if good is not None:
        unreadable = f"{raw} IS NOT NULL AND NOT coalesce({good}, false)"
        faults.append(_fault(unreadable, _CODES.get(form, "not_a_number"), path, raw, _EXPECTED[form]))
    if form == "decimal":
        kind = DUCKDB_TYPES[column.kind if column is not None else "price"]
        places = _PLACES[kind]
        finer = _finer(raw, kind, places)
        faults.append(_fault(finer, "too_many_decimals", path, raw, f"at most {places} decimal places"))
    if spec.codes is not None:
        typed = _translated(raw, spec.codes)
        faults.append(
            _fault(
                f"{raw} IS NOT NULL AND ({typed}) IS NULL", "unknown_code", path, raw, "one of " + ", ".join(spec.codes)
            )
        )
    elif column is not None and column.values:
        allowed = ", ".join(_t(v) for v in column.values)
        faults.append(
            _fault(f"{raw} NOT IN ({allowed})", "unknown_code", path, raw, "one of " + ", ".join(column.values))
        )
    if spec.min is not None:
        faults.append(
            _fault(
                f"({typed}) < {spec.min}",
                "negative" if spec.min == 0 else "too_small",
                path,
                raw,
                f"at least {spec.min}",
            )
        )
    return _Value(name, raw, typed, tuple(faults), form)


def _translated(raw: str, codes: Mapping[str, str]) -> str:
    """SQL of our value for a vendor's code; null for a code that is not listed."""
    listed = ", ".join(f"{_t(k)}: {_t(v)}" for k, v in codes.items())
    return f"(MAP {{{listed}}})[{raw}]"


def _sum_value(name: str, path: str, json: str) -> _Value:
    texts = f"coalesce(CASE WHEN record_fault IS NULL THEN json_extract_string({json}, {_t(json_path(path))}) END, [])"
    total = f"coalesce(list_sum(list_transform({texts}, lambda x: TRY_CAST(x AS BIGINT))), 0)"
    bad = f"len(list_filter({texts}, lambda x: NOT regexp_full_match(x, '-?[0-9]{{1,14}}'))) > 0"
    fault = _fault(bad, "not_a_number", _t(path), f"{texts}::VARCHAR", _EXPECTED["minor_sum"])
    return _Value(name, "NULL", _scaled(f"CAST({total} AS DECIMAL(18,0))"), (fault,), "minor_sum")


def _typed(form: Form, raw: str, column: Column | None) -> tuple[str, str | None]:
    """SQL of the typed value, and of the condition under which a text is readable (null: any text is)."""
    whole = r"'-?[0-9]{1,14}(\.0+)?'"
    if form == "text":
        return raw, f"length({raw}) <= {MAX_TEXT}"
    if form == "json":
        return f"{raw}::JSON", None
    if form == "currency":
        return "currency_code", "currency_code IS NOT NULL"
    if form == "int":
        return f"CAST(TRY_CAST({raw} AS DECIMAL(18,1)) AS BIGINT)", f"regexp_full_match({raw}, {whole})"
    if form == "bool":
        return f"TRY_CAST(lower({raw}) AS BOOLEAN)", f"lower({raw}) IN ('true', 'false')"
    if form == "minor":
        return _scaled(f"CAST(TRY_CAST({raw} AS DECIMAL(18,1)) AS DECIMAL(18,0))"), f"regexp_full_match({raw}, {whole})"
    if form in ("major", "decimal"):
        kind = DUCKDB_TYPES[column.kind if column is not None else "price"]
        digits = _LONGEST.get(kind, 14)
        typed = f"TRY_CAST({raw} AS {kind})"
        number = rf"'[-+]?[0-9]{{1,{digits}}}(\.[0-9]*)?([eE][-+]?[0-9]{{1,2}})?'"
        # a value finer than the column would be rounded without a word: it is a fault instead
        exact = f"{typed} IS NOT NULL" if form == "decimal" else f"NOT {_finer(raw, kind, _PLACES[kind])}"
        return typed, f"regexp_full_match({raw}, {number}) AND {exact}"
    if form == "date":
        return (
            f"TRY_CAST({raw} AS DATE)",
            rf"regexp_full_match({raw}, '\d{{4}}-\d{{2}}-\d{{2}}') AND TRY_CAST({raw} AS DATE) IS NOT NULL",
        )
    if form in ("unix", "unix_date", "unix_day"):
        instant = f"to_timestamp(TRY_CAST({raw} AS BIGINT))"
        good = rf"regexp_full_match({raw}, '[0-9]{{1,10}}')"
    else:
        instant = f"TRY_CAST({raw} AS TIMESTAMPTZ)"
        good = rf"regexp_full_match({raw}, '\d{{4}}-\d{{2}}-\d{{2}}[T ]\d{{2}}:\d{{2}}.*') AND {instant} IS NOT NULL"
    if form == "unix_day":
        return f"CAST(timezone('UTC', {instant}) AS DATE)", good
    if form in ("unix_date", "iso_date"):
        return f"CAST(timezone(zone, {instant}) AS DATE)", good
    return instant, good


def _finer(raw: str, kind: str, places: int) -> str:
    """SQL of whether a number's text has more decimal places than its column holds; null where it is no number."""
    digits = rf"regexp_matches({raw}, '^[^eE.]*\.[0-9]{{{places}}}[0-9]*[1-9][0-9]*$')"
    return f"({digits} OR TRY_CAST({raw} AS DECIMAL(38,14)) <> TRY_CAST({raw} AS {kind}))"


def _scaled(minor: str) -> str:
    """Minor units to currency units by multiplying, since dividing decimals gives a float."""
    return f"CAST({minor} * {MINOR_UNIT} AS DECIMAL(18,4))"


def _form(mapping: ObjectMapping, column: Column | None, spec: ColumnMapping) -> Form:
    if spec.form is not None:
        return spec.form
    if column is None:
        raise ConfigError("a field needs `as`", got=spec.path)
    if column.name == "currency":
        return "currency"
    if column.kind == "money":
        return mapping.amounts
    if column.kind == "instant":
        return mapping.instants
    return _BY_KIND[column.kind]


def _common(
    mapping: ObjectMapping, entity: EntityMapping, source: str, legal_entity: str | None, own: _Paths, parent: _Paths
) -> dict[str, str]:
    """SQL of the columns every entity has, for those the mapping leaves out."""
    record = parent if entity.is_list else own
    stamp = "strftime(fetched_at, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if mapping.version is not None:
        stamped = record.text(mapping.versions)
        # one spelling of an instant, since vendors write the same one as +0000 and as Z
        spelled = f"strftime(TRY_CAST({stamped} AS TIMESTAMPTZ), '%Y-%m-%dT%H:%M:%S.%fZ')"
        stamp = f"coalesce({spelled}, {stamped}, '') || '~' || {stamp}"
    entity_id = "NULL::VARCHAR" if legal_entity is None else _t(legal_entity)
    mapped = entity.columns.get("legal_entity_id")
    if mapped is not None and mapped.path is not None:
        first = mapped.paths[0]
        entity_id = parent.text((first[1:],)) if first.startswith("^") else own.text(mapped.paths, mapped.prefixes)
        if mapped.default is not None:
            entity_id = f"coalesce({entity_id}, {_t(mapped.default)})"
        if mapped.codes is not None:
            entity_id = _translated(entity_id, mapped.codes)
    return {
        "id": f"{_t(source + ':')} || source_id",
        "source": _t(source),
        "source_version": stamp,
        "legal_entity_id": entity_id,
        "accounting_date": "CAST(timezone(zone, occurred_at) AS DATE)",
        "correlation_id": f"left(sha256({_t(source + ':')} || source_id), 16)",
        "raw_ref": "raw_ref",
        "is_deleted": "false",
    }


def _entity_fault() -> str:
    return _fault(
        "entity_id IS NOT NULL AND known_entity IS NULL", "unknown_legal_entity", "'legal_entity_id'", "entity_id",
        "a legal entity of entities.yaml",
    )  # fmt: skip


def _computed_faults(
    entity: EntityMapping, columns: tuple[Column, ...], computed: dict[str, ColumnMapping]
) -> list[str]:
    """Faults of columns that SQL computes: a required one that came out null, a code that is not allowed."""
    faults = []
    for column in columns:
        spec = computed.get(column.name)
        if spec is None:
            continue
        name = _q(column.name)
        if spec.required if spec.required is not None else column.required:
            faults.append(_fault(f"{name} IS NULL", "missing", _t(column.name), "NULL", "a value"))
        if column.values:
            allowed = ", ".join(_t(v) for v in column.values)
            faults.append(
                _fault(
                    f"{name} NOT IN ({allowed})",
                    "unknown_code",
                    _t(column.name),
                    f"{name}::VARCHAR",
                    "one of " + ", ".join(column.values),
                )
            )
        if spec.min is not None:
            faults.append(
                _fault(f"{name} < {spec.min}", "negative", _t(column.name), f"{name}::VARCHAR", f"at least {spec.min}")
            )
    for check in entity.checks:
        value = f"{_q(check.field)}::VARCHAR"
        faults.append(_fault(check.fault_if, check.code, _t(check.field), value, check.expected))
    return faults


def _final(column: Column, entity: EntityMapping, defaults: dict[str, str]) -> str:
    kind = DUCKDB_TYPES[column.kind]
    if column.name in entity.columns:
        value = _q(column.name)
        if column.name == "is_deleted":
            value = f"coalesce({value}, false)"
        return f"CAST({value} AS {kind})"
    if column.name == "legal_entity_id":
        return "entity_id"
    if column.name == "accounting_date" and "occurred_at" not in entity.columns:
        return "NULL::DATE"
    return defaults.get(column.name, f"NULL::{kind}")


def _item(entity: EntityMapping) -> str:
    return "CAST(u.item AS VARCHAR)" if entity.is_list else "record"


def _elements_from(entity: EntityMapping, raw: str) -> str:
    if not entity.is_list:
        return raw
    listed = entity.each_sql or f"json_extract(record, {_t(json_path((entity.each or '') + '[*]'))})"
    # a record that cannot be read has no elements; its main entity tells the fault
    return f"{raw}, unnest(CASE WHEN record_fault IS NULL THEN {listed} END) WITH ORDINALITY AS u(item, element_no)"


def _fault(condition: str, code: str, field: str, value: str, expected: str) -> str:
    """SQL of a fault where the condition holds; `field` and `value` are SQL."""
    return (
        f"CASE WHEN {condition} THEN {{'code': {_t(code)}, 'field': {field}, 'value': {value}, "
        f"'expected': {_t(expected)}}} END"
    )


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _t(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
