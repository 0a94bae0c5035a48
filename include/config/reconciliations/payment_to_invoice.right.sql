-- Money received up to the business date: what each payment pays of which invoice, and payments that name none.
WITH received AS (
  SELECT p.*, k.name AS customer_name
  FROM payment AS p
  LEFT JOIN customer AS k ON k.source = p.source AND k.source_id = p.customer_source_id
  WHERE NOT p.is_deleted AND p.status = 'succeeded' AND p.accounting_date <= $business_date
)
SELECT
  p.source_id AS payment_id, a.invoice_reference, p.legal_entity_id, a.currency, p.customer_id, p.customer_name,
  p.accounting_date, a.amount, false AS is_overpayment,
  CASE WHEN a.invoice_source_id IS NULL THEN 'billing has no invoice ' || a.invoice_reference END AS reference_gap
FROM received AS p
JOIN payment_allocation AS a ON a.source = p.source AND a.payment_source_id = p.source_id AND NOT a.is_deleted
UNION ALL
SELECT
  p.source_id, NULL, p.legal_entity_id, p.currency, p.customer_id, p.customer_name, p.accounting_date,
  p.amount - p.allocated, p.allocated <> 0, NULL
FROM received AS p
WHERE p.amount <> p.allocated
