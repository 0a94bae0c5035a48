-- A refund's customer, from its payment; the credit note that explains it; its dates from the balance transactions.
WITH notes AS (
  SELECT source, refund_source_id AS source_id, min(source_id) AS credit_note_source_id
  FROM merged_credit_note WHERE refund_source_id IS NOT NULL AND status = 'issued' GROUP BY ALL
), failures AS (
  SELECT source, object_source_id AS source_id, max(accounting_date) AS failed_date
  FROM merged_balance_transaction WHERE type IN ('refund_failure', 'payment_refund_failure') GROUP BY ALL
)
SELECT m.* REPLACE (
  c.canonical_id AS customer_id,
  n.credit_note_source_id AS credit_note_source_id,
  b.accounting_date AS settled_date,
  f.failed_date AS failed_date,
  coalesce(b.occurred_at, m.occurred_at) AS occurred_at,
  coalesce(b.accounting_date, m.accounting_date) AS accounting_date
)
FROM merged_refund m
LEFT JOIN merged_payment p ON p.source = m.source AND p.source_id = m.payment_source_id
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = p.customer_source_id
LEFT JOIN notes n ON n.source = m.source AND n.source_id = m.source_id
LEFT JOIN failures f ON f.source = m.source AND f.source_id = m.source_id
LEFT JOIN merged_balance_transaction b ON b.source = m.source AND b.source_id = m.balance_transaction_id
