-- Posting rules applied: each event becomes signed legs (debit positive).
CREATE OR REPLACE TEMP VIEW applied AS
SELECT
  e.*,
  r.leg, r.role, r.stream, r.event_order, r.by_family, r.by_tax, r.settles, r.amount AS field,
  CASE WHEN r.rate = 'origin' THEN e.origin_rate ELSE e.own_rate END AS used_rate,
  CASE WHEN r.rate = 'origin' THEN e.origin_rate_source ELSE e.own_rate_source END AS used_source,
  CASE r.side WHEN 'debit' THEN 1 ELSE -1 END AS direction,
  CASE r.amount
    WHEN 'gross' THEN e.gross WHEN 'net' THEN e.net WHEN 'tax' THEN e.tax
    WHEN 'deferred' THEN e.deferred WHEN 'recognised' THEN e.recognised
    WHEN 'to_receivable' THEN e.to_receivable WHEN 'to_credit' THEN e.to_credit
    WHEN 'rounding' THEN e.rounding
    ELSE 0 END AS given,
  e.settled_currency IS NOT NULL AND e.settled_currency <> e.currency AS is_converted
FROM event AS e
LEFT JOIN rule AS r ON r.event_type = e.event_type;

CREATE OR REPLACE TEMP TABLE raw_leg AS
SELECT
  event_id, event_type, document_id, document_number, legal_entity_id, event_date, currency, currency AS transaction_currency,
  leg, role, stream, event_order, field, row_count,
  CASE WHEN by_family THEN coalesce(product_family, '') ELSE '' END AS product_family,
  CASE WHEN by_tax THEN coalesce(tax_code, '') ELSE '' END AS tax_code,
  CAST(direction * given AS DECIMAL(18, 4)) AS signed, CAST(direction * given AS DECIMAL(18, 4)) AS transaction_signed,
  CAST(NULL AS DECIMAL(28, 12)) AS rate, CAST(NULL AS VARCHAR) AS rate_source,
  gross, event_currency, held_reason, source, source_id, correlation_id, raw_ref
FROM applied WHERE NOT is_foreign;
