-- Final invoices up to the business date with what billing says was paid.
SELECT
  i.number, i.legal_entity_id, i.currency, i.customer_id, k.name AS customer_name, i.accounting_date, i.status,
  i.total, i.amount_paid, i.amount_remaining,
  CASE WHEN i.amount_paid <> 0 THEN i.amount_paid ELSE i.amount_remaining END AS amount
FROM invoice AS i
LEFT JOIN customer AS k ON k.source = i.source AND k.source_id = i.customer_source_id
WHERE NOT i.is_deleted AND i.number IS NOT NULL AND i.status <> 'draft' AND i.accounting_date <= $business_date
  AND NOT (i.status = 'void' AND i.voided_date <= $business_date)
