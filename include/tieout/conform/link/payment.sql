-- A payment's fee and settlement date from its balance transaction, its customer, and what it pays in all.
WITH allocations AS (
  SELECT source, payment_source_id AS source_id, CAST(sum(amount) AS DECIMAL(18,4)) AS allocated
  FROM payment_allocation GROUP BY ALL
)
SELECT m.* REPLACE (
  c.canonical_id AS customer_id,
  b.fee AS fee,
  b.accounting_date AS settled_date,
  coalesce(b.occurred_at, m.occurred_at) AS occurred_at,
  coalesce(b.accounting_date, m.accounting_date) AS accounting_date,
  coalesce(a.allocated, 0) AS allocated
)
FROM merged_payment m
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = m.customer_source_id
LEFT JOIN merged_balance_transaction b ON b.source = m.source AND b.source_id = m.balance_transaction_id
LEFT JOIN allocations a ON a.source = m.source AND a.source_id = m.source_id
