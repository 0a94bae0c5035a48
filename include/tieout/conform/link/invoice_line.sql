-- An invoice line's customer, from its invoice, and its product by the mapping in force on the invoice's date.
SELECT m.* REPLACE (
  c.canonical_id AS customer_id,
  p.canonical_id AS product_id,
  p.family AS product_family
)
FROM merged_invoice_line m
LEFT JOIN merged_invoice i ON i.source = m.source AND i.source_id = m.invoice_source_id
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = i.customer_source_id
LEFT JOIN product_mapping p ON p.source = m.source AND p.source_id = m.product_source_id
  AND coalesce(m.accounting_date, m.period_start) >= p.valid_from AND coalesce(m.accounting_date, m.period_start) < p.valid_to
