-- A dispute's customer, from the disputed payment; the day it was closed, from the event where no money moved.
WITH closings AS (
  SELECT source, object_source_id AS source_id, min(accounting_date) AS closed_date
  FROM merged_billing_event WHERE type = 'charge.dispute.closed' GROUP BY ALL
)
SELECT m.* REPLACE (
  c.canonical_id AS customer_id,
  CASE WHEN m.status IN ('won', 'lost') THEN coalesce(m.closed_date, e.closed_date) END AS closed_date
)
FROM merged_dispute m
LEFT JOIN merged_payment p ON p.source = m.source AND p.source_id = m.payment_source_id
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = p.customer_source_id
LEFT JOIN closings e ON e.source = m.source AND e.source_id = m.source_id
