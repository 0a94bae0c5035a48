-- Final invoices up to the business date.
SELECT
  i.number, i.source_id AS invoice_id, i.legal_entity_id, i.currency, i.total, i.tax, i.accounting_date, i.mapping_gap,
  coalesce(i.status = 'void' AND i.voided_date <= $business_date, false) AS is_void,
  k.name AS customer_name
FROM invoice AS i
LEFT JOIN customer AS k ON k.source = i.source AND k.source_id = i.customer_source_id
WHERE NOT i.is_deleted AND i.number IS NOT NULL AND i.status <> 'draft' AND i.accounting_date <= $business_date
