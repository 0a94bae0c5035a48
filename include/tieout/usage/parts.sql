-- What is kept of the events of a subscription, meter and day: enough to sum up that day, its billing period and both
-- as they were known at any day, without the events. First the meters that add up, then those that need single points.
SELECT
  subscription_source_id, meter, usage_day, received_day, replaced_day,
  CAST(NULL AS VARCHAR) AS value_key, CAST(NULL AS TIMESTAMPTZ) AS point_at, CAST(NULL AS VARCHAR) AS point_id,
  CAST(sum(quantity) AS DECIMAL(28, 9)) AS quantity,
  max(own_unit) AS unit,
  count(*) AS event_count,
  CAST(sum(corrected) AS BIGINT) AS corrected_count
FROM dated
WHERE aggregation IN ('sum', 'count')
GROUP BY subscription_source_id, meter, usage_day, received_day, replaced_day;

SELECT
  subscription_source_id, meter, usage_day, received_day, replaced_day, value_key,
  CASE WHEN aggregation = 'last' THEN max(occurred_at) ELSE point_at END AS point_at,
  CASE WHEN aggregation IN ('last', 'time_weighted') THEN max_by(event_id, order_by) END AS point_id,
  CASE
    WHEN aggregation = 'max' THEN max(quantity)
    WHEN aggregation IN ('last', 'time_weighted') THEN max_by(quantity, order_by)
    WHEN aggregation = 'percentile' THEN level
    ELSE CAST(0 AS DECIMAL(28, 9))
  END AS quantity,
  max(own_unit) AS unit,
  count(*) AS event_count,
  CAST(sum(corrected) AS BIGINT) AS corrected_count
FROM (
  SELECT
    subscription_source_id, meter, usage_day, received_day, replaced_day, aggregation, own_unit, quantity, occurred_at,
    event_id, corrected,
    CASE WHEN aggregation = 'unique' THEN value_key END AS value_key,
    CASE WHEN aggregation = 'time_weighted' THEN occurred_at END AS point_at,
    CASE WHEN aggregation = 'percentile' THEN quantity END AS level,
    struct_pack(at := occurred_at, id := event_id) AS order_by
  FROM dated
  WHERE aggregation NOT IN ('sum', 'count')
) AS single
GROUP BY subscription_source_id, meter, usage_day, received_day, replaced_day, aggregation, value_key, point_at, level
