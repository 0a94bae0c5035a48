-- Contracts, under the legal entity that bills their customer.
WITH account AS (
  SELECT id, min(legal_entity_id) AS legal_entity_id
  FROM customer WHERE legal_entity_id IS NOT NULL AND decided_by = 'own' GROUP BY id
)
SELECT c.source_id AS contract_id, c.number, coalesce(a.legal_entity_id, '') AS legal_entity_id, c.start_date
FROM contract AS c
LEFT JOIN account AS a ON a.id = c.customer_id
WHERE NOT c.is_deleted AND c.status = 'Activated' AND c.start_date <= $business_date
