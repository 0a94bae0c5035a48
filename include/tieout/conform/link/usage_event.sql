-- A usage event's customer, legal entity and day, from the billing subscription it names.
WITH subscriptions AS (
  SELECT source_id, min(source) AS source, min(legal_entity_id) AS legal_entity_id, min(customer_source_id) AS customer_source_id
  FROM merged_subscription GROUP BY ALL HAVING count(*) = 1
)
SELECT m.* REPLACE (
  c.canonical_id AS customer_id,
  s.legal_entity_id AS legal_entity_id,
  CAST(timezone(coalesce(e.zone, 'UTC'), m.occurred_at) AS DATE) AS accounting_date,
  CAST(timezone(coalesce(e.zone, 'UTC'), m.occurred_at) AS DATE) AS usage_date
)
FROM merged_usage_event m
LEFT JOIN subscriptions s ON s.source_id = m.subscription_source_id
LEFT JOIN legal_entities e ON e.id = s.legal_entity_id
LEFT JOIN customer_of c ON c.source = s.source AND c.source_id = s.customer_source_id
