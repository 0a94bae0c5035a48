-- The cases: a content in place of the first one, or, where the two are of different periods, each in its own.
CREATE OR REPLACE TEMP TABLE placed_content AS
SELECT c.*, d.period_start, d.period_end, coalesce(u.quantity, 0) AS used
FROM content AS c
JOIN subscription_days AS d USING (subscription_source_id, meter, usage_day)
LEFT JOIN made_usage_summary AS u
  ON u.grain = 'period' AND u.subscription_source_id = c.subscription_source_id AND u.meter = c.meter
  AND u.period_start = d.period_start;

CREATE OR REPLACE TEMP TABLE conflict_case AS
WITH pair AS (
  SELECT
    o.source, o.event_id, o.version_no, o.subscription_source_id, o.meter, o.period_start, o.period_end, o.used, o.quantity,
    f.subscription_source_id AS first_subscription, f.meter AS first_meter, f.period_start AS first_start,
    f.period_end AS first_end, f.used AS first_used, f.quantity AS first_quantity,
    (o.subscription_source_id, o.meter, o.period_start) = (f.subscription_source_id, f.meter, f.period_start) AS is_one
  FROM placed_content AS o
  JOIN placed_content AS f ON f.source = o.source AND f.event_id = o.event_id AND f.version_no = 1
  -- of a first content that was set aside, or replaced since, the period holds nothing
  WHERE f.used >= f.quantity
)
SELECT row_number() OVER (ORDER BY source, event_id, version_no, part) AS case_no, *
FROM (
  SELECT source, event_id, version_no, 'content' AS part, subscription_source_id, meter, period_start, period_end,
    CASE WHEN is_one THEN used - first_quantity + quantity ELSE used + quantity END AS quantity, used AS other_quantity
  FROM pair
  UNION ALL
  SELECT source, event_id, version_no, 'first', first_subscription, first_meter, first_start, first_end, first_used,
    first_used - first_quantity
  FROM pair
  WHERE NOT is_one
);
