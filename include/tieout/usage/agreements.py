"""Commitments and prepaid credit as finance keeps them: CSV files become rows, and what cannot is set aside.

What they come to is worked out by `commitments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from tieout import schema
from tieout.lake.engine import Engine
from tieout.settings import Settings
from tieout.usage.commitments import draw_down, true_up
from tieout.usage.inputs import Rows, bind
from tieout.usage.price_books import bind_csv, typed_texts

FILES = {
    "commitment": ("commitments", "term_start", "term_end"),
    "prepaid_credit": ("prepaid_credits", "granted_on", "expires_on"),
}
"""Folder of the configuration, first day and day after the last one."""
_TOLD = (pa.field("line", pa.int64()), *(pa.field(name, pa.string()) for name in ("reason_code", "cell", "file")))
REASONS = {
    "no_number": "a column that holds numbers holds something else, or more decimals than it keeps",
    "no_date": "a column that holds dates holds something else than YYYY-MM-DD",
    "missing": "the id, the subscription, the amount, the currency or a day is missing",
    "no_term": "it ends before it begins",
    "negative": "its amount is negative",
    "repeated": "another row has its id",
    "other_currency": "usage within the term is charged in another currency",
}


@dataclass(frozen=True, slots=True)
class Agreed:
    """What was agreed besides prices, and what it comes to on a day."""

    tables: dict[str, pa.Table]
    """`commitment`, `commitment_true_up`, `prepaid_credit`, `credit_draws`, `credit_balances`."""
    quarantined: pa.Table
    """Columns of `price_quarantine`."""


def published_agreements(lines: Rows, settings: Settings, as_of: date, *, session: Engine) -> Agreed:
    """What rated usage owes to commitments and takes from prepaid credit by a day.

    The CSV files of the configuration's folder `commitments` have columns of `commitment`, those of `prepaid_credits`
    columns of `prepaid_credit`. `lines` has the columns of `rated_lines`, of all billing periods. Raises DataError for
    a column that is needed and missing.
    """
    commitments, aside = _read(session, "commitment", settings)
    credits, refused = _read(session, "prepaid_credit", settings)
    bind(session, "rated_lines", lines, ())
    session.bind("read_commitment", commitments)
    session.execute(
        """
        CREATE OR REPLACE TEMP TABLE mixed AS
        SELECT DISTINCT c.commitment_id
        FROM read_commitment AS c
        JOIN given_rated_lines AS l
          ON l.subscription_source_id = c.subscription_source_id AND (c.meter IS NULL OR c.meter = l.meter)
          AND l.period_end > c.term_start AND l.period_end <= c.term_end
        WHERE l.currency <> c.currency
        """
    )
    mixed = session.sql(
        f"SELECT 'csv' AS source, c.commitment_id AS price_source_id, c.subscription_source_id, c.meter,"
        f" CAST(NULL AS BIGINT) AS tier_no, 'other_currency' AS reason_code, '{REASONS['other_currency']}' AS reason"
        " FROM read_commitment AS c SEMI JOIN mixed USING (commitment_id) ORDER BY ALL"
    ).cast(schema.table("price_quarantine").arrow)
    shape = schema.table("commitment").arrow
    commitments = session.sql("SELECT * FROM read_commitment ANTI JOIN mixed USING (commitment_id) ORDER BY 1").cast(
        shape
    )
    use = draw_down(lines, credits, as_of, session=session)
    return Agreed(
        {
            "commitment": commitments,
            "commitment_true_up": true_up(lines, commitments, (date(1900, 1, 1), as_of), session=session),
            "prepaid_credit": credits,
            "credit_draws": use.draws,
            "credit_balances": use.balances,
        },
        pa.concat_tables([aside, refused, mixed]),
    )


def judge(session: Engine, name: str, settings: Settings) -> None:
    """Make the table `judged_agreement` of all rows of a table's files: `file`, `line`, and what keeps it from being
    used (`reason_code`, and `cell` where one does). Raises DataError for a column that is needed and missing."""
    shape, (folder, begins, ends) = schema.table(name), FILES[name]
    (key,) = shape.key
    needed = " OR ".join(f"{c.name} IS NULL" for c in shape.columns if c.required)
    told = pa.schema([*(f.with_nullable(True) for f in shape.arrow), *_TOLD])
    found = [told.empty_table()]
    for path in settings.config_files(folder, ".csv"):
        bind_csv(session, f"csv_{name}", path, shape)
        query = f"SELECT *, $file AS file FROM ({typed_texts(shape, f'given_csv_{name}')})"
        found.append(session.sql(query, {"file": str(path)}).cast(told))
    session.bind("told", pa.concat_tables(found))
    session.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE judged_agreement AS
        SELECT * REPLACE (CASE
          WHEN reason_code IS NOT NULL THEN reason_code
          WHEN {needed} THEN 'missing'
          WHEN {ends} <= {begins} THEN 'no_term'
          WHEN amount < 0 THEN 'negative'
          WHEN count(*) OVER (PARTITION BY {key}) > 1 THEN 'repeated'
        END AS reason_code)
        FROM told
        """
    )


def _read(session: Engine, name: str, settings: Settings) -> tuple[pa.Table, pa.Table]:
    """The rows of a table's files, and those that cannot be used, as rows of `price_quarantine`."""
    shape, quarantine = schema.table(name), schema.table("price_quarantine").arrow
    (key,) = shape.key
    judge(session, name, settings)
    cases = " ".join(f"WHEN '{code}' THEN '{words}'" for code, words in REASONS.items())
    rows = session.sql(
        f"SELECT {', '.join(shape.names)} FROM judged_agreement WHERE reason_code IS NULL ORDER BY {key}"
    ).cast(shape.arrow)
    aside = session.sql(
        f"SELECT 'csv' AS source, coalesce({key}, '') AS price_source_id, subscription_source_id, meter,"
        f" CAST(NULL AS BIGINT) AS tier_no, reason_code, CASE reason_code {cases} END AS reason"
        " FROM judged_agreement WHERE reason_code IS NOT NULL ORDER BY ALL"
    ).cast(quarantine)
    return rows, aside
