-- Support cases open on the business date, each with a contract that was active on the day it was opened.
WITH account AS (
  SELECT id, min(legal_entity_id) AS legal_entity_id, min(name) AS name
  FROM customer WHERE legal_entity_id IS NOT NULL AND decided_by = 'own' GROUP BY id
)
SELECT
  s.source_id AS ticket_id,
  coalesce(a.legal_entity_id, '') AS legal_entity_id,
  a.name AS customer_name,
  s.opened_date,
  s.priority,
  CASE
    WHEN s.customer_source_id IS NULL AND s.customer_id IS NULL THEN 'it has no organisation'
    WHEN s.customer_id IS NULL THEN 'organisation ' || s.customer_source_id || ' is no customer of the CRM'
  END AS customer_gap,
  (
    SELECT min(c.source_id) FROM contract AS c
    WHERE c.customer_id = s.customer_id AND NOT c.is_deleted AND c.status = 'Activated'
      AND c.start_date <= s.opened_date AND coalesce(c.end_date, DATE '9999-12-31') > s.opened_date
  ) AS contract_id
FROM "case" AS s
LEFT JOIN account AS a ON a.id = s.customer_id
WHERE NOT s.is_deleted AND s.status IN ('new', 'open', 'pending', 'hold') AND s.opened_date <= $business_date
