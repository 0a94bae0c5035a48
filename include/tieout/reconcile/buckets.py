"""Sets identical rows aside before matching: buckets of keys whose rows are the same on both sides need no join.

A bucket holds the rows whose keys hash into it. It counts as equal only if both sides agree, per currency, on the
number of rows, the exact sum of every compared amount and the sums of both halves of a 128-bit hash of all compared
values, and if neither side repeats a key in it or carries evidence. Its rows then are matches without a difference and
go into totals only; all others take the ordinary way. The residual risk: rows that differ but have equal 128-bit hash
sums and equal sums of money. No difference in a total can hide.
"""

from __future__ import annotations

from tieout.reconcile.definition import Definition, KeyedPass
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, numbered_rows

_ROWS_PER_BUCKET = 8


def can_set_aside(definition: Definition) -> bool:
    """Whether the first pass matches identical rows one to one, whatever else there is."""
    first = definition.passes[0]
    return isinstance(first, KeyedPass) and first.cardinality == "1:1" and first.accept != "suggested"


def keep_differing(session: Session, definition: Definition) -> int:
    """Make `<side>_rows` of what is not provably identical; gives how many pairs were set aside."""
    rows = session.rows("SELECT greatest((SELECT count(*) FROM left_input), (SELECT count(*) FROM right_input))")[0][0]
    buckets = max(1, rows // _ROWS_PER_BUCKET)
    keys = [f"key_1_{i}" for i in range(1, len(definition.passes[0].by) + 1)]
    bucket = f"hash(entity, {', '.join(keys)}) % {buckets}"
    takes_part = " AND ".join(["excluded IS NULL", "takes_part_1", *(f"{k} IS NOT NULL" for k in keys)])
    values = ["entity", *keys, "currency", *(f"is_{c.name}" for c in definition.compare)]
    values += ["period"] if any(c.kind == "date" and c.periods for c in definition.compare) else []
    listed = ", ".join(f"coalesce({v}::VARCHAR, chr(30))" for v in values)
    summed = ["amount", *(f"is_{c.name}" for c in definition.compare if c.kind == "amount")]
    sums = ", ".join(f"sum({column}) AS sum_{n}" for n, column in enumerate(summed))
    differs = " OR ".join(
        f"l.{c} IS DISTINCT FROM r.{c}" for c in ("rows", "upper", "lower", *(f"sum_{n}" for n in range(len(summed))))
    )
    for side in SIDES:
        session.make(
            f"{side}_buckets",
            "SELECT bucket, currency, count(*) AS rows, sum(md5_number_upper(line)::HUGEINT) AS upper,\n"
            "  sum(md5_number_lower(line)::HUGEINT) AS lower, bool_or(proof_type IS NOT NULL) AS has_evidence,\n"
            f"  {sums}\nFROM (SELECT *, {bucket} AS bucket, concat_ws(chr(31), {listed}) AS line\n"
            f"  FROM {side}_standard WHERE {takes_part})\nGROUP BY bucket, currency",
        )
    session.make(
        "unequal",
        "SELECT DISTINCT coalesce(l.bucket, r.bucket) AS bucket FROM left_buckets l FULL JOIN right_buckets r\n"
        "  ON l.bucket = r.bucket AND l.currency IS NOT DISTINCT FROM r.currency\n"
        f"WHERE {differs} OR l.has_evidence OR r.has_evidence\n"
        "UNION\n"
        f"SELECT bucket FROM (SELECT {bucket} AS bucket FROM left_standard WHERE {takes_part}\n"
        f"  GROUP BY hash(entity, {', '.join(keys)}), bucket HAVING count(*) > 1)",
    )
    for side in SIDES:
        kept = f"NOT ({takes_part}) OR {bucket} IN (SELECT bucket FROM unequal)"
        session.make(f"{side}_rows", numbered_rows(definition, side, f"({kept})"))
    aside: int = session.rows(
        "SELECT coalesce(sum(rows), 0)::BIGINT FROM left_buckets WHERE bucket NOT IN (SELECT bucket FROM unequal)"
    )[0][0]
    return aside
