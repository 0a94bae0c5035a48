-- The part of a batch that a reversal takes back: what earlier reversals left of the chosen source rows, in whole or a
-- share of it, in functional currency (amount) and in the line's own (own_amount). A share is spread by largest
-- remainder, first over events and their currencies, in each of which an event balances, then over the two sides of
-- each; so every event, and with it every journal, stays balanced to the minor unit in every currency.
CREATE OR REPLACE TEMP TABLE open_part AS
SELECT
  o.* EXCLUDE (amount, own_amount),
  units(o.amount) - coalesce(t.taken, 0) AS amount, units(o.own_amount) - coalesce(t.own_taken, 0) AS own_amount
FROM origin_part AS o
LEFT JOIN (
  SELECT
    event_id, event_date, leg, account, product_family, tax_code, side, own_currency,
    sum(units(amount)) AS taken, sum(units(own_amount)) AS own_taken
  FROM taken_part GROUP BY ALL
) AS t USING (event_id, event_date, leg, account, product_family, tax_code, side, own_currency)
WHERE units(o.amount) > coalesce(t.taken, 0) OR units(o.own_amount) > coalesce(t.own_taken, 0);

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
  SELECT
    currency, own_currency, run_key, event_id, event_date,
    coalesce(sum(amount) FILTER (side = 'debit'), 0) AS total, coalesce(sum(own_amount) FILTER (side = 'debit'), 0) AS own_total
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
    e.*, t.target, t.total AS total_of_all, asked.quantum, u.quantum AS own_quantum,
    (t.target * e.total) // greatest(t.total * asked.quantum, 1) * asked.quantum AS floored,
    (t.target * e.total) % greatest(t.total * asked.quantum, 1) AS remainder
  FROM event AS e JOIN target AS t USING (currency) JOIN minor_unit AS u ON u.currency = e.own_currency CROSS JOIN asked
), given AS (
  SELECT
    *,
    floored + CASE WHEN row_number() OVER (
        PARTITION BY currency ORDER BY remainder DESC, event_id, event_date, run_key, own_currency)
      <= (target - sum(floored) OVER (PARTITION BY currency)) // quantum THEN quantum ELSE 0 END AS given
  FROM base
)
SELECT
  run_key, event_id, event_date, own_currency, total, own_total, quantum, own_quantum, given,
  -- the same part in the event's own currency; an event without functional amount gives as much as all of them do
  CASE
    WHEN own_currency = currency OR given = total AND total > 0 THEN CASE WHEN own_currency = currency THEN given ELSE own_total END
    WHEN total > 0 THEN least(own_total, rounded_ratio(own_total * given, total, own_quantum))
    WHEN target = total_of_all THEN own_total
    ELSE least(own_total, rounded_ratio(own_total * target, total_of_all, own_quantum))
  END AS own_given
FROM given;

CREATE OR REPLACE TEMP TABLE reversed_part AS
WITH base AS (
  SELECT
    c.*, s.given, s.own_given, s.quantum, s.own_quantum,
    (s.given * c.amount) // greatest(s.total * s.quantum, 1) * s.quantum AS floored,
    (s.given * c.amount) % greatest(s.total * s.quantum, 1) AS remainder,
    (s.own_given * c.own_amount) // greatest(s.own_total * s.own_quantum, 1) * s.own_quantum AS own_floored,
    (s.own_given * c.own_amount) % greatest(s.own_total * s.own_quantum, 1) AS own_remainder
  FROM chosen AS c JOIN event_share AS s USING (run_key, event_id, event_date, own_currency)
), spread AS (
  SELECT
    *,
    floored + CASE WHEN row_number() OVER (side_of_event ORDER BY remainder DESC, leg, account, product_family, tax_code, line_no)
      <= (given - sum(floored) OVER side_of_event) // quantum THEN quantum ELSE 0 END AS part,
    own_floored + CASE WHEN row_number() OVER (side_of_event ORDER BY own_remainder DESC, leg, account, product_family, tax_code, line_no)
      <= (own_given - sum(own_floored) OVER side_of_event) // own_quantum THEN own_quantum ELSE 0 END AS own_part
  FROM base
  WINDOW side_of_event AS (PARTITION BY run_key, event_id, event_date, own_currency, side)
)
SELECT
  * EXCLUDE (amount, own_amount, given, own_given, quantum, own_quantum, floored, remainder, own_floored, own_remainder, part,
    own_part, transaction_amount),
  money(part) AS amount, money(own_part) AS transaction_amount
FROM spread WHERE part > 0 OR own_part > 0;
