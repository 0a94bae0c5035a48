-- A credit note's customer and the number of the invoice it credits.
SELECT m.* REPLACE (c.canonical_id AS customer_id, i.number AS invoice_number)
FROM merged_credit_note m
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = m.customer_source_id
LEFT JOIN merged_invoice i ON i.source = m.source AND i.source_id = m.invoice_source_id
