-- Usage of billing periods that have ended, free of duplicates, corrections applied.
SELECT
  u.subscription_source_id, u.meter, u.period_start, u.period_end, u.legal_entity_id, u.quantity, u.unit,
  k.name AS customer_name
FROM usage_summary AS u
LEFT JOIN subscription AS s ON s.source_id = u.subscription_source_id
LEFT JOIN customer AS k ON k.source = s.source AND k.source_id = s.customer_source_id
WHERE u.grain = 'period' AND u.period_end <= $business_date
