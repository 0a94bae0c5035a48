-- A usage event's customer, legal entity and day, from the billing subscription it names; its quantity in the unit its
-- meter counts in. Always from what the sender wrote, so that a factor mended today also reaches last year's events.
WITH subscriptions AS (
  SELECT source_id, min(source) AS source, min(legal_entity_id) AS legal_entity_id, min(customer_source_id) AS customer_source_id
  FROM merged_subscription GROUP BY ALL HAVING count(*) = 1
), meters AS (
  SELECT meter, min(unit) AS unit FROM merged_product WHERE meter IS NOT NULL GROUP BY ALL HAVING count(DISTINCT unit) = 1
), located AS (
  SELECT
    m.* REPLACE (
      c.canonical_id AS customer_id,
      s.legal_entity_id AS legal_entity_id,
      CAST(timezone(coalesce(e.zone, 'UTC'), m.occurred_at) AS DATE) AS usage_date,
      CAST(timezone('UTC', m.occurred_at) AS DATE) AS event_day,
      coalesce(m.original_quantity, m.quantity) AS original_quantity,
      CASE WHEN m.original_quantity IS NULL THEN m.unit ELSE m.original_unit END AS original_unit
    ),
    k.unit AS meter_unit
  FROM merged_usage_event m
  LEFT JOIN subscriptions s ON s.source_id = m.subscription_source_id
  LEFT JOIN legal_entities e ON e.id = s.legal_entity_id
  LEFT JOIN customer_of c ON c.source = s.source AND c.source_id = s.customer_source_id
  LEFT JOIN meters k ON k.meter = m.meter
), measured AS (
  SELECT
    l.*,
    converted(l.original_quantity, coalesce(o.numerator, u.numerator), coalesce(o.denominator, u.denominator)) AS in_meter_unit
  FROM located l
  LEFT JOIN unit_conversions o
    ON o.meter = l.meter AND o.from_unit = l.original_unit AND o.to_unit = l.meter_unit
    AND l.usage_date >= o.valid_from AND l.usage_date < o.valid_to
  LEFT JOIN unit_conversions u
    ON u.meter IS NULL AND u.from_unit = l.original_unit AND u.to_unit = l.meter_unit
    AND l.usage_date >= u.valid_from AND l.usage_date < u.valid_to
)
SELECT * REPLACE (
  usage_date AS accounting_date,
  coalesce(in_meter_unit, original_quantity) AS quantity,
  CASE WHEN in_meter_unit IS NOT NULL THEN meter_unit ELSE original_unit END AS unit
)
FROM measured
