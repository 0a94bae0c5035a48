-- A provisioned feature's customer and legal entity: the customer it names, else its subscription's.
WITH subscriptions AS (
  SELECT source_id, min(source) AS source, min(legal_entity_id) AS legal_entity_id, min(customer_source_id) AS customer_source_id
  FROM merged_subscription GROUP BY ALL HAVING count(*) = 1
)
SELECT m.* REPLACE (
  coalesce(c.canonical_id, o.canonical_id) AS customer_id,
  coalesce(m.legal_entity_id, s.legal_entity_id) AS legal_entity_id
)
FROM merged_provisioning m
LEFT JOIN subscriptions s ON s.source_id = m.subscription_source_id
LEFT JOIN customer_of c ON c.source = s.source AND c.source_id = s.customer_source_id
LEFT JOIN (SELECT source_id, min(canonical_id) AS canonical_id FROM customer_of GROUP BY ALL HAVING count(DISTINCT canonical_id) = 1) o
  ON o.source_id = m.customer_source_id
