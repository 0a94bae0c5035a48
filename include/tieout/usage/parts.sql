-- What is kept of the events of a subscription, meter and day: enough to sum up that day, its billing period and both
-- as they were known at any day, without the events. First the meters that add up, then those that need single points.
SELECT
  s.source_id AS subscription_source_id, m.meter, p.usage_day, p.received_day, p.replaced_day,
  CAST(NULL AS VARCHAR) AS value_key, CAST(NULL AS TIMESTAMPTZ) AS point_at, CAST(NULL AS VARCHAR) AS point_id,
  p.quantity, p.unit, p.event_count, p.corrected_count
FROM (
  SELECT
    subscription_no, meter_no, usage_day, received_day, replaced_day,
    CAST(sum(quantity) AS DECIMAL(28, 9)) AS quantity,
    max(own_unit) AS unit,
    count(*) AS event_count,
    CAST(sum(corrected) AS BIGINT) AS corrected_count
  FROM dated
  WHERE aggregation IN ('sum', 'count')
  GROUP BY subscription_no, meter_no, usage_day, received_day, replaced_day
) AS p
JOIN subscriptions AS s ON s.subscription_no = p.subscription_no
JOIN meters AS m ON m.meter_no = p.meter_no;

SELECT
  s.source_id AS subscription_source_id, m.meter, p.usage_day, p.received_day, p.replaced_day, p.value_key,
  CASE WHEN m.aggregation = 'last' THEN p.last_at ELSE p.point_at END AS point_at,
  CASE WHEN m.aggregation IN ('last', 'time_weighted') THEN p.last_id END AS point_id,
  CASE m.aggregation
    WHEN 'max' THEN p.greatest
    WHEN 'last' THEN p.last
    WHEN 'time_weighted' THEN p.last
    WHEN 'percentile' THEN p.level
    ELSE CAST(0 AS DECIMAL(28, 9))
  END AS quantity,
  p.unit, p.event_count, p.corrected_count
FROM (
  SELECT
    subscription_no, meter_no, usage_day, received_day, replaced_day, value_key, point_at, level,
    max(quantity) AS greatest,
    max_by(quantity, order_by) AS last,
    max_by(event_id, order_by) AS last_id,
    max(occurred_at) AS last_at,
    max(own_unit) AS unit,
    count(*) AS event_count,
    CAST(sum(corrected) AS BIGINT) AS corrected_count
  FROM (
    SELECT
      subscription_no, meter_no, usage_day, received_day, replaced_day, own_unit, quantity, occurred_at, event_id,
      corrected,
      CASE WHEN aggregation = 'unique' THEN value_key END AS value_key,
      CASE WHEN aggregation = 'time_weighted' THEN occurred_at END AS point_at,
      CASE WHEN aggregation = 'percentile' THEN quantity END AS level,
      struct_pack(at := occurred_at, id := event_id) AS order_by
    FROM dated
    WHERE aggregation NOT IN ('sum', 'count')
  ) AS single
  GROUP BY subscription_no, meter_no, usage_day, received_day, replaced_day, value_key, point_at, level
) AS p
JOIN subscriptions AS s ON s.subscription_no = p.subscription_no
JOIN meters AS m ON m.meter_no = p.meter_no
