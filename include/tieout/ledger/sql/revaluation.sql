-- Monetary balances in other currencies at the closing rate of the period that holds run.until: what they are worth less
-- what the books carry them at, earlier revaluations included; nothing is reversed, the next period goes on from there.
CREATE OR REPLACE TEMP TABLE revaluation_event AS
WITH span AS (
  SELECT f.name, f.end_date, run.* FROM fiscal_period AS f, run WHERE run.until BETWEEN f.start_date AND f.end_date
), held_open AS (
  SELECT p.role, p.currency, sum(p.open_amount) AS open_amount, sum(p.carried_at) AS carried_at
  FROM (SELECT * FROM fx_position UNION ALL SELECT * FROM opening_position) AS p, span
  WHERE p.currency <> span.functional AND p.role IN ('receivable', 'processor_clearing', 'customer_credit')
  GROUP BY ALL
)
SELECT
  'revaluation:' || span.name || ':' || h.role || ':' || h.currency AS event_id,
  CASE h.role WHEN 'processor_clearing' THEN 'revaluation_clearing' ELSE 'revaluation_' || h.role END AS event_type,
  'revaluation:' || span.name || ':' || h.role || ':' || h.currency AS document_id,
  'open ' || h.open_amount || ' ' || h.currency AS document_number,
  span.end_date AS event_date, h.currency,
  CASE WHEN date_diff('day', r.rate_date, span.end_date) <= span.rate_days
    THEN converted(h.open_amount, r.rate, span.functional_quantum) - h.carried_at END AS functional,
  'ledger' AS source, h.role || ' ' || h.currency AS source_id
FROM held_open AS h
CROSS JOIN span
ASOF LEFT JOIN functional_rate AS r ON r.currency = h.currency AND r.rate_date <= span.end_date
WHERE h.open_amount <> 0 OR h.carried_at <> 0;
