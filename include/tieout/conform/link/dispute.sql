-- A dispute's customer, from the disputed payment.
SELECT m.* REPLACE (c.canonical_id AS customer_id)
FROM merged_dispute m
LEFT JOIN merged_payment p ON p.source = m.source AND p.source_id = m.payment_source_id
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = p.customer_source_id
