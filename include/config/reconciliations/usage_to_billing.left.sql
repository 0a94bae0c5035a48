-- Usage of billing periods that have ended, free of duplicates, corrections applied, at the subscription's price.
WITH priced AS (
  SELECT subscription_source_id, meter, min(unit_amount) AS unit_amount, min(currency) AS currency
  FROM subscription_item WHERE meter IS NOT NULL AND NOT is_deleted
  GROUP BY ALL HAVING count(DISTINCT unit_amount) = 1 AND count(unit_amount) = count(*) AND count(DISTINCT currency) = 1
)
SELECT
  u.subscription_source_id, u.meter, u.period_start, u.period_end, u.legal_entity_id, u.quantity, u.unit,
  replace(u.meter, '_', ' ') || ' by ' || coalesce(k.name, 'an unknown customer') || ' from ' || u.period_start
    || ' to ' || (u.period_end - 1) AS about,
  p.currency,
  -- exact: a tiered price has no unit amount, so its usage is not priced
  (TRY_CAST(u.quantity AS DECIMAL(20,9)) * TRY_CAST(p.unit_amount AS DECIMAL(18,12)))::DECIMAL(38,6) AS amount
FROM usage_summary AS u
LEFT JOIN priced AS p ON p.subscription_source_id = u.subscription_source_id AND p.meter = u.meter
LEFT JOIN subscription AS s ON s.source_id = u.subscription_source_id
LEFT JOIN customer AS k ON k.source = s.source AND k.source_id = s.customer_source_id
WHERE u.grain = 'period' AND u.period_end <= $business_date
