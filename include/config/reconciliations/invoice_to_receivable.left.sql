-- Final invoices up to the business date; one with an unmapped product names it.
WITH unmapped AS (
  SELECT
    l.source, l.invoice_source_id, min(l.product_source_id) AS product_source_id, min(p.name) AS product_name
  FROM invoice_line AS l
  LEFT JOIN product AS p ON p.source = l.source AND p.source_id = l.product_source_id
  WHERE l.product_family IS NULL AND NOT l.is_deleted
    AND l.invoice_source_id IN (SELECT source_id FROM invoice WHERE mapping_gap IS NOT NULL)
  GROUP BY ALL
)
SELECT
  i.number, i.source_id AS invoice_id, i.legal_entity_id, i.currency, i.total, i.tax, i.accounting_date,
  i.mapping_gap || coalesce(' (' || u.product_name || ')', '') AS mapping_gap, 'product ' || u.product_source_id AS cause,
  coalesce(i.status = 'void' AND i.voided_date <= $business_date, false) AS is_void,
  k.name AS customer_name
FROM invoice AS i
LEFT JOIN customer AS k ON k.source = i.source AND k.source_id = i.customer_source_id
LEFT JOIN unmapped AS u ON u.source = i.source AND u.invoice_source_id = i.source_id
WHERE NOT i.is_deleted AND i.number IS NOT NULL AND i.status <> 'draft' AND i.accounting_date <= $business_date
