-- Each due leg's slot: its own date while that period is open, else the stream prior_period on the first open day.
CREATE OR REPLACE TEMP TABLE placed AS
SELECT
  d.*,
  r.event_order,
  p.legal_entity_id || '/' || p.ledger || '/' || p.target_period || '/'
    || CASE WHEN p.target_date = d.event_date THEN r.stream ELSE 'prior_period' END || '/' || p.target_date AS slot,
  p.ledger,
  p.target_period AS period,
  CASE WHEN p.target_date = d.event_date THEN r.stream ELSE 'prior_period' END AS slot_stream,
  p.target_date AS slot_date,
  p.legal_entity_id || '/' || p.origin_ledger || '/' || p.origin_period || '/' || r.stream || '/' || d.event_date
    AS origin_slot,
  p.origin_period,
  p.is_prior_year,
  CASE WHEN d.signed > 0 OR (d.signed = 0 AND d.transaction_signed > 0) THEN 'debit' ELSE 'credit' END AS posted_side,
  abs(d.signed) AS amount,
  abs(d.transaction_signed) AS transaction_amount
FROM due AS d
JOIN place AS p ON p.legal_entity_id = d.legal_entity_id AND p.event_date = d.event_date
JOIN (SELECT DISTINCT event_type, stream, event_order FROM rule) AS r USING (event_type);
