-- The part of a batch that a reversal takes back: what earlier reversals left of the chosen source rows, in whole or a
-- share of it. A share is spread by largest remainder, first over events, then over each event's two sides, so that every
-- event, and with it every journal, stays balanced to the minor unit.
CREATE OR REPLACE TEMP TABLE open_part AS
SELECT
  o.* EXCLUDE (amount), units(o.amount) - coalesce(t.taken, 0) AS amount
FROM origin_part AS o
LEFT JOIN (
  SELECT event_id, event_date, leg, account, product_family, tax_code, side, sum(units(amount)) AS taken
  FROM taken_part GROUP BY ALL
) AS t USING (event_id, event_date, leg, account, product_family, tax_code, side)
WHERE units(o.amount) > coalesce(t.taken, 0);

CREATE OR REPLACE TEMP TABLE chosen AS
SELECT p.* FROM open_part AS p, asked
WHERE (NOT asked.by_line OR p.line_no IN (SELECT line_no FROM chosen_line))
  AND (NOT asked.by_document OR p.event_id IN (
    SELECT event_id FROM origin_part WHERE document_number IN (SELECT document FROM chosen_document)
      OR source_id IN (SELECT document FROM chosen_document)
  ));

-- what each event is to give, of its total: all of it, or its part of the asked-for amount
CREATE OR REPLACE TEMP TABLE event_share AS
WITH event AS (
  SELECT currency, run_key, event_id, event_date, sum(amount) FILTER (side = 'debit') AS total
  FROM chosen GROUP BY ALL
), target AS (
  SELECT
    currency, sum(total) AS total,
    CASE
      WHEN any_value(asked.amount) IS NOT NULL THEN units(any_value(asked.amount))
      ELSE rounded_ratio(sum(total) * any_value(asked.numerator), any_value(asked.denominator), any_value(asked.quantum))
    END AS target
  FROM event, asked GROUP BY currency
), base AS (
  SELECT
    e.*, t.target, asked.quantum,
    (t.target * e.total) // (t.total * asked.quantum) * asked.quantum AS floored,
    (t.target * e.total) % (t.total * asked.quantum) AS remainder
  FROM event AS e JOIN target AS t USING (currency) CROSS JOIN asked
)
SELECT
  run_key, event_id, event_date, total, quantum,
  floored + CASE WHEN row_number() OVER (PARTITION BY currency ORDER BY remainder DESC, event_id, event_date, run_key)
    <= (target - sum(floored) OVER (PARTITION BY currency)) // quantum THEN quantum ELSE 0 END AS given
FROM base;

CREATE OR REPLACE TEMP TABLE reversed_part AS
WITH base AS (
  SELECT
    c.*, s.given, s.quantum,
    (s.given * c.amount) // (s.total * s.quantum) * s.quantum AS floored,
    (s.given * c.amount) % (s.total * s.quantum) AS remainder
  FROM chosen AS c JOIN event_share AS s USING (run_key, event_id, event_date)
), spread AS (
  SELECT
    *,
    floored + CASE WHEN row_number() OVER (side_of_event ORDER BY remainder DESC, leg, account, product_family, tax_code, line_no)
      <= (given - sum(floored) OVER side_of_event) // quantum THEN quantum ELSE 0 END AS part
  FROM base
  WINDOW side_of_event AS (PARTITION BY run_key, event_id, event_date, side)
)
SELECT * EXCLUDE (amount, given, quantum, floored, remainder, part), money(part) AS amount
FROM spread WHERE part > 0;
