-- The invoice an allocation pays: by billing's id or by the number the payment names.
WITH by_number AS (
  SELECT source, number, min(source_id) AS source_id FROM merged_invoice WHERE number IS NOT NULL GROUP BY ALL HAVING count(*) = 1
)
SELECT m.* REPLACE (
  c.canonical_id AS customer_id,
  coalesce(i.number, m.invoice_reference) AS invoice_reference,
  coalesce(i.source_id, n.source_id) AS invoice_source_id
)
FROM merged_payment_allocation m
LEFT JOIN merged_invoice i ON i.source = m.source AND i.source_id = m.invoice_reference
LEFT JOIN by_number n ON n.source = m.source AND n.number = m.invoice_reference
LEFT JOIN merged_payment p ON p.source = m.source AND p.source_id = m.payment_source_id
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = p.customer_source_id
