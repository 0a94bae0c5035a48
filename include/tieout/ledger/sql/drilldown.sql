-- The source rows behind each line: of events that were placed one by one, and of those their bucket was placed for.
CREATE OR REPLACE TEMP TABLE placed_leg AS
SELECT
  n.run_key, n.line_no, p.event_id, p.event_date, p.leg, p.amount, p.transaction_amount, p.rate, p.rate_source,
  p.document_number, p.source, p.source_id, p.correlation_id, p.raw_ref,
  CASE WHEN p.slot_date <> p.event_date THEN p.origin_slot END AS origin_slot
FROM parted AS p
JOIN slot_chunk AS c
  ON c.slot = p.slot AND c.currency = p.currency AND c.event_type = p.event_type AND c.shape = p.shape
JOIN numbered AS n
  ON n.slot = p.slot AND n.chunk = c.chunk AND n.currency = p.currency AND n.event_type = p.event_type
  AND n.account = p.account AND n.role = p.role AND n.product_family = p.product_family AND n.tax_code = p.tax_code
  AND n.posted_side = p.posted_side AND n.transaction_currency = p.transaction_currency;

CREATE OR REPLACE TEMP VIEW journal_part AS
SELECT
  run_key, line_no, event_id, leg, event_date, CAST(amount AS DECIMAL(18, 4)) AS amount,
  document_number, source, source_id, correlation_id, raw_ref, origin_slot,
  CAST(transaction_amount AS DECIMAL(18, 4)) AS transaction_amount, rate, rate_source
FROM placed_leg
WHERE event_id NOT IN (SELECT bucket_id FROM plain_bucket WHERE bucket_id IS NOT NULL)
UNION ALL
SELECT
  p.run_key, p.line_no, e.event_id, p.leg, e.event_date,
  abs(CASE r.amount
    WHEN 'gross' THEN e.gross WHEN 'net' THEN e.net WHEN 'tax' THEN e.tax
    WHEN 'deferred' THEN e.deferred WHEN 'recognised' THEN e.recognised
    WHEN 'to_receivable' THEN e.to_receivable WHEN 'to_credit' THEN e.to_credit
    WHEN 'rounding' THEN e.rounding
    ELSE 0 END) AS amount,
  e.document_number, e.source, e.source_id, e.correlation_id, e.raw_ref, p.origin_slot,
  abs(CASE r.amount
    WHEN 'gross' THEN e.gross WHEN 'net' THEN e.net WHEN 'tax' THEN e.tax
    WHEN 'deferred' THEN e.deferred WHEN 'recognised' THEN e.recognised
    WHEN 'to_receivable' THEN e.to_receivable WHEN 'to_credit' THEN e.to_credit
    WHEN 'rounding' THEN e.rounding
    ELSE 0 END),
  NULL, NULL
FROM alike_event AS e
JOIN plain_bucket AS b
  ON b.legal_entity_id = e.legal_entity_id AND b.event_type = e.event_type AND b.event_date = e.event_date
  AND b.currency = e.currency AND b.family_key = coalesce(e.product_family, '') AND b.tax_key = coalesce(e.tax_code, '')
  AND b.pattern = e.pattern
JOIN placed_leg AS p ON p.event_id = b.bucket_id
JOIN rule AS r ON r.event_type = e.event_type AND r.leg = p.leg;
