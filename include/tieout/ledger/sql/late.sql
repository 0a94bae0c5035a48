-- Late entries: placed on another date than their event's, because its period is closed. Tested per unit (an event with
-- all its dates, an accrual with its reversal) against what late entries of the same account and origin period add up to.
-- What is held counts as well: a small entry behind a large one waits with it.
CREATE OR REPLACE TEMP TABLE unit_leg AS
SELECT
  p.legal_entity_id, replace(p.event_id, 'accrual_reversal:', 'accrual:') AS unit, p.event_id, p.event_type, p.event_date,
  p.leg, p.account, p.signed, p.currency, p.transaction_signed, p.transaction_currency, p.document_number, p.source, p.source_id, p.raw_ref,
  p.slot_date <> p.event_date AS is_late, p.ledger, p.origin_slot, p.origin_period, p.is_prior_year
FROM placed AS p;

CREATE OR REPLACE TEMP TABLE tested AS
WITH by_account AS (
  SELECT
    legal_entity_id, unit, account, origin_period, currency, bool_or(is_prior_year) AS is_prior_year,
    min(event_date) AS first_day, sum(signed) AS net, sum(abs(signed)) AS gross
  FROM unit_leg WHERE is_late GROUP BY ALL
), running AS (
  SELECT
    a.*,
    coalesce(p.net, 0) + sum(a.net) OVER before AS net_so_far,
    coalesce(p.gross, 0) + sum(a.gross) OVER before AS gross_so_far
  FROM by_account AS a
  LEFT JOIN late_posted AS p USING (legal_entity_id, account, origin_period, currency)
  WINDOW before AS (
    PARTITION BY a.legal_entity_id, a.account, a.origin_period, a.currency ORDER BY a.first_day, a.unit
    ROWS UNBOUNDED PRECEDING
  )
)
SELECT
  legal_entity_id, unit,
  min(CASE
    WHEN is_prior_year THEN 'late for ' || origin_period || ', of a prior fiscal year'
    WHEN abs(net_so_far) > limits.net OR gross_so_far > limits.gross THEN
      'late for ' || origin_period || ': late entries on account ' || account || ' come to '
        || CAST(CAST(net_so_far AS DECIMAL(38, 2)) AS VARCHAR) || ' net, '
        || CAST(CAST(gross_so_far AS DECIMAL(38, 2)) AS VARCHAR) || ' gross'
  END) AS reason
FROM running, limits
GROUP BY legal_entity_id, unit;

CREATE OR REPLACE TEMP TABLE withheld AS
WITH unit AS (
  SELECT
    legal_entity_id, unit,
    string_agg(
      event_date || ' ' || leg || ' ' || account || ' ' || CAST(signed AS VARCHAR)
        || CASE WHEN transaction_currency <> currency
             THEN ' ' || CAST(transaction_signed AS VARCHAR) || ' ' || transaction_currency ELSE '' END
        || CASE WHEN event_type = 'accrual_reversal' THEN ' reversal' ELSE '' END,
      chr(10) ORDER BY event_date, event_type, leg, account, signed, transaction_currency
    ) AS content
  FROM unit_leg
  WHERE unit IN (SELECT unit FROM tested WHERE reason IS NOT NULL UNION SELECT unit FROM decision)
  GROUP BY ALL
)
SELECT
  u.legal_entity_id, u.unit, u.content,
  CASE
    WHEN d.state = 'not_to_be_posted' AND d.content = u.content THEN 'not to be posted'
    WHEN d.state = 'not_to_be_posted' THEN 'it changed after it was decided that it is not to be posted'
    ELSE t.reason
  END AS reason,
  CASE WHEN d.state = 'not_to_be_posted' AND d.content = u.content THEN 'not_to_be_posted' ELSE 'late' END AS state
FROM unit AS u
LEFT JOIN tested AS t USING (legal_entity_id, unit)
LEFT JOIN decision AS d USING (unit)
WHERE (d.state = 'not_to_be_posted') OR (t.reason IS NOT NULL AND (d.content = u.content) IS NOT TRUE);

CREATE OR REPLACE TEMP TABLE late_unit AS
SELECT
  w.legal_entity_id, w.unit, w.content, w.reason, w.state,
  -- the earliest of its entries tells where it belonged; an accrual before its reversal
  arg_min(l.ledger, (l.event_date, l.event_type)) AS ledger, arg_min(l.event_type, (l.event_date, l.event_type)) AS event_type,
  min(l.event_date) AS event_date, arg_min(l.origin_slot, (l.event_date, l.event_type)) AS origin_slot,
  arg_min(l.origin_period, (l.event_date, l.event_type)) AS origin_period,
  max(l.document_number) AS document_number, min(l.currency) AS currency,
  CAST(coalesce(sum(l.signed) FILTER (l.signed > 0), 0) AS DECIMAL(18, 4)) AS gross
FROM withheld AS w JOIN unit_leg AS l USING (legal_entity_id, unit)
GROUP BY ALL;

INSERT INTO held
SELECT
  l.event_id, l.event_type, l.legal_entity_id, l.event_date, any_value(l.document_number), any_value(w.reason),
  sum(l.signed) FILTER (l.signed > 0), l.currency, any_value(l.source), any_value(l.source_id), any_value(l.raw_ref),
  any_value(w.state), any_value(w.reason)
FROM unit_leg AS l JOIN withheld AS w USING (legal_entity_id, unit)
GROUP BY l.event_id, l.event_type, l.legal_entity_id, l.event_date, l.currency;

DELETE FROM placed WHERE replace(event_id, 'accrual_reversal:', 'accrual:') IN (SELECT unit FROM withheld);
