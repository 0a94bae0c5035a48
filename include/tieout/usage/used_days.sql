-- The days that need a billing period: those with parts, and those that a level weighted by time goes on over.
CREATE OR REPLACE TEMP VIEW used_days AS
SELECT subscription_source_id, meter, usage_day FROM parts
UNION
SELECT p.subscription_source_id, p.meter, z.day
FROM (
  SELECT
    p.subscription_source_id, p.meter, s.zone, min(p.point_at) AS first_at, least(coalesce(max(s.ended_at), max(e.until_at)),
      max(e.until_at)) AS ended_at
  FROM parts AS p
  JOIN meters AS m ON m.meter = p.meter AND m.aggregation = 'time_weighted'
  JOIN subscriptions AS s ON s.source_id = p.subscription_source_id
  JOIN zone_ends AS e ON e.zone = s.zone
  GROUP BY p.subscription_source_id, p.meter, s.zone
) AS p
JOIN zone_days AS z ON z.zone = p.zone AND z.ends_at > p.first_at AND z.starts_at < p.ended_at;
