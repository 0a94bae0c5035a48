-- Payments, fees, refunds, disputes and payouts as accounting events.
CREATE OR REPLACE TEMP TABLE cash_event AS
WITH received AS (
  SELECT
    p.*,
    coalesce(p.settled_date, p.accounting_date) AS on_date,
    CASE
      WHEN p.balance_transaction_id IS NOT NULL THEN 'processor'
      WHEN p.method = 'customer_balance' THEN 'credit'
      ELSE 'direct'
    END AS way
  FROM payment AS p, run
  WHERE p.legal_entity_id = run.entity AND p.status = 'succeeded' AND NOT p.is_deleted
), applied AS (
  SELECT
    r.source, r.source_id AS payment_id, r.way, r.on_date, r.currency, r.correlation_id, r.raw_ref,
    a.invoice_reference,
    coalesce(i.uncollectible_date < r.on_date AND i.voided_date IS NULL, false) AS is_recovery,
    sum(a.amount) AS amount
  FROM received AS r
  JOIN payment_allocation AS a ON a.source = r.source AND a.payment_source_id = r.source_id AND NOT a.is_deleted
  JOIN ledger_invoice AS i ON i.source = a.source AND i.source_id = a.invoice_source_id
  GROUP BY ALL
), payment_row AS (
  SELECT
    'payment:' || source || ':' || payment_id || ':' || invoice_reference AS event_id,
    CASE
      WHEN way = 'credit' THEN 'credit_applied'
      WHEN is_recovery THEN 'recovery_' || way
      ELSE 'payment_' || way
    END AS event_type,
    source || ':' || payment_id AS document_id,
    invoice_reference AS document_number,
    on_date, currency,
    amount AS gross, amount AS to_receivable, 0 AS to_credit,
    source, payment_id AS source_id, correlation_id, raw_ref
  FROM applied
  UNION ALL
  SELECT
    'payment:' || r.source || ':' || r.source_id || ':unapplied',
    CASE r.way WHEN 'processor' THEN 'payment_processor' ELSE 'payment_direct' END,
    r.source || ':' || r.source_id, r.reference, r.on_date, r.currency,
    r.amount - coalesce(a.amount, 0), 0, r.amount - coalesce(a.amount, 0),
    r.source, r.source_id, r.correlation_id, r.raw_ref
  FROM received AS r
  LEFT JOIN (SELECT source, payment_id, sum(amount) AS amount FROM applied GROUP BY ALL) AS a
    ON a.source = r.source AND a.payment_id = r.source_id
  WHERE r.way <> 'credit' AND r.amount <> coalesce(a.amount, 0)
), movement AS (
  SELECT b.* FROM balance_transaction AS b, run
  WHERE b.legal_entity_id = run.entity AND NOT b.is_deleted
), other_row AS (
  SELECT
    'fee:' || source || ':' || source_id AS event_id, 'fee' AS event_type, source || ':' || source_id AS document_id,
    object_source_id AS document_number, accounting_date AS on_date, currency,
    CASE WHEN reporting_category = 'fee' THEN fee - amount ELSE fee END AS gross,
    source, source_id, correlation_id, raw_ref
  FROM movement WHERE reporting_category NOT IN ('dispute', 'dispute_reversal')
  UNION ALL
  -- a negative invoice gives the credit itself, by its own rule
  SELECT
    'credit_applied:' || document_id, 'credit_applied', document_id || ':credit', number, accounting_date, currency,
    credit_applied, source, source_id, correlation_id, raw_ref
  FROM ledger_invoice WHERE total > 0 AND credit_applied <> 0
  UNION ALL
  -- a voided invoice gives back the credit it had taken
  SELECT
    'credit_returned:' || document_id, 'credit_applied', document_id || ':credit', number, voided_date, currency,
    -credit_applied, source, source_id, correlation_id, raw_ref
  FROM ledger_invoice WHERE total > 0 AND credit_applied <> 0 AND voided_date IS NOT NULL
  UNION ALL
  SELECT
    'refund:' || source || ':' || source_id,
    CASE WHEN credit_note_source_id IS NULL THEN 'refund_unexplained' ELSE 'refund_credited' END,
    source || ':' || source_id, NULL, settled_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM refund, run WHERE legal_entity_id = run.entity AND NOT is_deleted AND settled_date IS NOT NULL
  UNION ALL
  SELECT
    'refund_failed:' || source || ':' || source_id,
    CASE WHEN credit_note_source_id IS NULL THEN 'refund_unexplained_failed' ELSE 'refund_credited_failed' END,
    source || ':' || source_id, NULL, failed_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM refund, run
  WHERE legal_entity_id = run.entity AND NOT is_deleted AND settled_date IS NOT NULL AND failed_date IS NOT NULL
  UNION ALL
  SELECT
    'dispute:' || source || ':' || source_id, 'dispute_withdrawn', source || ':' || source_id, payment_source_id,
    withdrawn_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM dispute, run WHERE legal_entity_id = run.entity AND NOT is_deleted AND withdrawn_date IS NOT NULL
  UNION ALL
  SELECT
    'dispute_fee:' || source || ':' || source_id, 'dispute_fee', source || ':' || source_id, payment_source_id,
    withdrawn_date, currency, fee, source, source_id, correlation_id, raw_ref
  FROM dispute, run
  WHERE legal_entity_id = run.entity AND NOT is_deleted AND withdrawn_date IS NOT NULL AND fee IS NOT NULL
  UNION ALL
  SELECT
    'dispute_closed:' || source || ':' || source_id, 'dispute_' || status, source || ':' || source_id, payment_source_id,
    closed_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM dispute, run
  WHERE legal_entity_id = run.entity AND NOT is_deleted AND withdrawn_date IS NOT NULL AND closed_date IS NOT NULL
    AND status IN ('won', 'lost')
  UNION ALL
  SELECT
    'payout:' || source || ':' || source_id, 'payout_sent', source || ':' || source_id, bank_reference,
    accounting_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM payout, run WHERE legal_entity_id = run.entity AND NOT is_deleted AND status <> 'canceled'
  UNION ALL
  SELECT
    'payout_arrived:' || p.source || ':' || p.source_id || ':' || b.source_id, 'payout_arrived',
    p.source || ':' || p.source_id, p.bank_reference, b.booking_date, b.currency, b.amount,
    b.source, b.source_id, b.correlation_id, b.raw_ref
  FROM payout AS p
  JOIN run ON p.legal_entity_id = run.entity
  JOIN bank_line AS b
    ON b.legal_entity_id = p.legal_entity_id AND b.currency = p.currency AND NOT b.is_deleted
    AND p.bank_reference <> '' AND b.amount > 0
    -- the payout's reference stands at the end of, or as a word within, the remittance text
    AND list_contains(string_split(b.reference, ' '), p.bank_reference)
  WHERE NOT p.is_deleted
  UNION ALL
  SELECT
    'payout_failed:' || source || ':' || source_id, 'payout_failed', source || ':' || source_id, object_source_id,
    accounting_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM movement WHERE type IN ('payout_failure', 'payout_cancel')
), every_row AS (
  SELECT event_id, event_type, document_id, document_number, on_date, currency, gross, to_receivable, to_credit,
    source, source_id, correlation_id, raw_ref
  FROM payment_row
  UNION ALL
  SELECT event_id, event_type, document_id, document_number, on_date, currency, gross, 0, 0,
    source, source_id, correlation_id, raw_ref
  FROM other_row
)
SELECT
  event_id, event_type, document_id, document_number, on_date AS event_date, currency,
  NULL AS product_family, NULL AS tax_code,
  0 AS net, 0 AS tax, gross, 0 AS deferred, 0 AS recognised, to_receivable, to_credit, 0 AS rounding,
  NULL AS held_reason, source, source_id, correlation_id, raw_ref
FROM every_row, run
WHERE on_date >= run.go_live;
