-- Usage lines of final invoices.
SELECT
  l.source_id AS line_id, l.invoice_number, l.subscription_source_id, l.meter, l.period_start, l.period_end,
  l.legal_entity_id, l.quantity, k.name AS customer_name
FROM invoice_line AS l
JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
LEFT JOIN customer AS k ON k.source = i.source AND k.source_id = i.customer_source_id
WHERE l.meter IS NOT NULL AND NOT l.is_deleted AND NOT i.is_deleted
  AND i.status <> 'draft' AND NOT (i.status = 'void' AND i.voided_date <= $business_date)
  AND i.accounting_date <= $business_date
  AND l.period_end <= $business_date
