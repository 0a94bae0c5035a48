-- Sums per subscription and meter, by day and by billing period, from the parts: as they are known now, and as they
-- were known when the day ended, or the period was billed or else ended (`in_time`).

CREATE OR REPLACE TEMP VIEW grains AS
SELECT
  *,
  CASE WHEN replaced_day IS NULL THEN 1 ELSE 0 END AS is_now,
  CASE WHEN received_day < known_until AND (replaced_day IS NULL OR replaced_day >= known_until)
    THEN 1 ELSE 0 END AS is_in_time
FROM (
  SELECT
    p.*, m.aggregation, m.percentile, 'day' AS grain, p.usage_day AS period_start, CAST(p.usage_day + 1 AS DATE) AS period_end,
    CAST(p.usage_day + 1 AS DATE) AS known_until
  FROM parts AS p
  JOIN meters AS m ON m.meter = p.meter
  UNION ALL
  SELECT p.*, m.aggregation, m.percentile, 'period' AS grain, d.period_start, d.period_end,
    greatest(d.period_end, coalesce(b.billed_on, d.period_end)) AS known_until
  FROM parts AS p
  JOIN meters AS m ON m.meter = p.meter
  JOIN subscription_days AS d
    ON d.subscription_source_id = p.subscription_source_id AND d.meter = p.meter AND d.usage_day = p.usage_day
  LEFT JOIN billed_periods AS b
    ON b.subscription_source_id = p.subscription_source_id AND b.meter = p.meter AND b.period_start = d.period_start
) AS both_grains;

CREATE OR REPLACE TEMP VIEW added_up AS
SELECT
  subscription_source_id, meter, grain, period_start, max(period_end) AS period_end,
  sum(CASE WHEN is_now = 0 THEN 0 WHEN aggregation = 'count' THEN event_count ELSE quantity END) AS quantity,
  sum(CASE WHEN is_in_time = 0 THEN 0 WHEN aggregation = 'count' THEN event_count ELSE quantity END) AS quantity_in_time,
  max(unit) AS unit,
  sum(event_count * is_now) AS event_count,
  sum(corrected_count) AS corrected_count,
  sum(CASE WHEN received_day >= period_end THEN event_count * is_now ELSE 0 END) AS late_count
FROM grains
WHERE aggregation IN ('sum', 'count')
GROUP BY subscription_source_id, meter, grain, period_start
-- parts may have been taken off again
HAVING sum(event_count) <> 0;

-- Nearest rank: the smallest value that at least p% of the events do not exceed.
CREATE OR REPLACE TEMP VIEW percentiles AS
SELECT
  subscription_source_id, meter, grain, period_start,
  min(CASE WHEN now_rank * 100 >= percentile * now_total AND now_total > 0 THEN quantity END) AS quantity,
  min(CASE WHEN in_time_rank * 100 >= percentile * in_time_total AND in_time_total > 0 THEN quantity END)
    AS quantity_in_time
FROM (
  SELECT
    subscription_source_id, meter, grain, period_start, quantity, percentile,
    sum(event_count * is_now) OVER ranked AS now_rank,
    sum(event_count * is_now) OVER whole AS now_total,
    sum(event_count * is_in_time) OVER ranked AS in_time_rank,
    sum(event_count * is_in_time) OVER whole AS in_time_total
  FROM grains
  WHERE aggregation = 'percentile'
  WINDOW
    whole AS (PARTITION BY subscription_source_id, meter, grain, period_start),
    ranked AS (
      PARTITION BY subscription_source_id, meter, grain, period_start ORDER BY quantity
      RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
) AS ranks
GROUP BY subscription_source_id, meter, grain, period_start;

-- Billing periods of meters weighted by time, and when each was known to its end.
CREATE OR REPLACE TEMP VIEW level_periods AS
SELECT
  p.subscription_source_id, p.meter, d.period_start, max(d.period_end) AS period_end,
  greatest(max(d.period_end), coalesce(max(b.billed_on), max(d.period_end))) AS known_until
FROM (
  SELECT DISTINCT q.subscription_source_id, q.meter
  FROM parts AS q
  JOIN meters AS m ON m.meter = q.meter AND m.aggregation = 'time_weighted'
) AS p
JOIN subscription_days AS d ON d.subscription_source_id = p.subscription_source_id AND d.meter = p.meter
LEFT JOIN billed_periods AS b
  ON b.subscription_source_id = p.subscription_source_id AND b.meter = p.meter AND b.period_start = d.period_start
GROUP BY p.subscription_source_id, p.meter, d.period_start;

-- The level a period began with, as it was known in time for that period: a point that came too late for its own period
-- may have been known long before a later one ended.
CREATE OR REPLACE TEMP VIEW carried AS
SELECT
  d.subscription_source_id, d.meter, d.period_start, d.period_end, max(g.point_at) AS point_at,
  max_by(g.level, struct_pack(at := g.point_at, id := g.point_id)) AS level
FROM level_periods AS d
JOIN (
  SELECT
    p.subscription_source_id, p.meter, p.period_start, p.received_day, p.replaced_day, max(p.point_at) AS point_at,
    max_by(p.quantity, p.order_by) AS level, max_by(p.point_id, p.order_by) AS point_id
  FROM (
    SELECT *, struct_pack(at := point_at, id := point_id) AS order_by
    FROM grains
    WHERE aggregation = 'time_weighted' AND grain = 'period'
  ) AS p
  GROUP BY p.subscription_source_id, p.meter, p.period_start, p.received_day, p.replaced_day
) AS g
  ON g.subscription_source_id = d.subscription_source_id AND g.meter = d.meter AND g.period_start < d.period_start
  AND g.received_day < d.known_until AND (g.replaced_day IS NULL OR g.replaced_day >= d.known_until)
GROUP BY d.subscription_source_id, d.meter, d.period_start, d.period_end;

-- Of meters weighted by time: what they were at, from each point on, as is known now, and for each billing period as
-- it was known in time for it.
CREATE OR REPLACE TEMP VIEW levels AS
SELECT
  p.subscription_source_id, p.meter, s.zone, p.known, p.first_day, p.after_day, p.level, p.point_at,
  least(coalesce(lead(p.point_at) OVER (
    PARTITION BY p.subscription_source_id, p.meter, p.known, p.first_day ORDER BY p.point_at
  ), e.until_at), coalesce(s.ended_at, e.until_at), e.until_at) AS until_at
FROM (
  SELECT
    g.subscription_source_id, g.meter, 'now' AS known, DATE '0001-01-01' AS first_day, DATE '9999-12-31' AS after_day,
    g.point_at, max_by(g.quantity, g.point_id) AS level
  FROM grains AS g
  WHERE g.aggregation = 'time_weighted' AND g.grain = 'period' AND g.is_now = 1
  GROUP BY g.subscription_source_id, g.meter, g.point_at
  UNION ALL
  SELECT
    g.subscription_source_id, g.meter, 'in_time', g.period_start, max(g.period_end), g.point_at,
    max_by(g.quantity, g.point_id)
  FROM grains AS g
  WHERE g.aggregation = 'time_weighted' AND g.grain = 'period' AND g.is_in_time = 1
  GROUP BY g.subscription_source_id, g.meter, g.period_start, g.point_at
  UNION ALL
  SELECT subscription_source_id, meter, 'in_time', period_start, period_end, point_at, level FROM carried
) AS p
JOIN subscriptions AS s ON s.source_id = p.subscription_source_id
JOIN zone_ends AS e ON e.zone = s.zone;

-- A day's quantity is its level weighted by the share of the day it held, days being as long as they are where the
-- clock changes: five seats held all day are five seat-days on any day. Whole numbers of billionths, rounded half up.
CREATE OR REPLACE TEMP VIEW weighted_days AS
SELECT
  subscription_source_id, meter, day,
  CAST(CAST((2 * weight_now + day_us) // (2 * day_us) AS DECIMAL(28, 0)) * CAST(0.000000001 AS DECIMAL(10, 9))
    AS DECIMAL(28, 9)) AS quantity,
  CAST(CAST((2 * weight_in_time + day_us) // (2 * day_us) AS DECIMAL(28, 0)) * CAST(0.000000001 AS DECIMAL(10, 9))
    AS DECIMAL(28, 9)) AS quantity_in_time
FROM (
  SELECT
    l.subscription_source_id, l.meter, z.day,
    CAST(max(epoch_us(z.ends_at) - epoch_us(z.starts_at)) AS HUGEINT) AS day_us,
    CAST(sum(CASE WHEN l.known = 'now' THEN CAST(l.level * 1000000000 AS HUGEINT)
      * (epoch_us(least(l.until_at, z.ends_at)) - epoch_us(greatest(l.point_at, z.starts_at))) ELSE 0 END) AS HUGEINT)
      AS weight_now,
    CAST(sum(CASE WHEN l.known = 'in_time' THEN CAST(l.level * 1000000000 AS HUGEINT)
      * (epoch_us(least(l.until_at, z.ends_at)) - epoch_us(greatest(l.point_at, z.starts_at))) ELSE 0 END) AS HUGEINT)
      AS weight_in_time
  FROM levels AS l
  JOIN zone_days AS z
    ON z.zone = l.zone AND z.starts_at < l.until_at AND z.ends_at > l.point_at AND z.day >= l.first_day
    AND z.day < l.after_day
  WHERE l.until_at > l.point_at
  GROUP BY l.subscription_source_id, l.meter, z.day
) AS weights;

CREATE OR REPLACE TEMP VIEW weighted AS
SELECT
  subscription_source_id, meter, 'day' AS grain, day AS period_start, CAST(day + 1 AS DATE) AS period_end, quantity,
  quantity_in_time
FROM weighted_days
UNION ALL
SELECT
  w.subscription_source_id, w.meter, 'period', d.period_start, max(d.period_end), sum(w.quantity),
  sum(w.quantity_in_time)
FROM weighted_days AS w
JOIN subscription_days AS d
  ON d.subscription_source_id = w.subscription_source_id AND d.meter = w.meter AND d.usage_day = w.day
GROUP BY w.subscription_source_id, w.meter, d.period_start;

CREATE OR REPLACE TEMP VIEW pointwise AS
SELECT
  g.subscription_source_id, g.meter, g.grain, g.period_start, max(g.period_end) AS period_end,
  CASE max(g.aggregation)
    WHEN 'max' THEN max(CASE WHEN g.is_now = 1 THEN g.quantity END)
    WHEN 'last' THEN max_by(g.quantity, g.order_by) FILTER (WHERE g.is_now = 1)
    WHEN 'unique' THEN CAST(count(DISTINCT CASE WHEN g.is_now = 1 THEN g.value_key END) AS DECIMAL(28, 9))
  END AS quantity,
  CASE max(g.aggregation)
    WHEN 'max' THEN max(CASE WHEN g.is_in_time = 1 THEN g.quantity END)
    WHEN 'last' THEN max_by(g.quantity, g.order_by) FILTER (WHERE g.is_in_time = 1)
    WHEN 'unique' THEN CAST(count(DISTINCT CASE WHEN g.is_in_time = 1 THEN g.value_key END) AS DECIMAL(28, 9))
  END AS quantity_in_time,
  max(g.unit) AS unit,
  sum(g.event_count * g.is_now) AS event_count,
  sum(g.corrected_count) AS corrected_count,
  sum(CASE WHEN g.received_day >= g.period_end THEN g.event_count * g.is_now ELSE 0 END) AS late_count
FROM (SELECT *, struct_pack(at := point_at, id := point_id) AS order_by FROM grains) AS g
WHERE g.aggregation NOT IN ('sum', 'count')
GROUP BY g.subscription_source_id, g.meter, g.grain, g.period_start;

CREATE OR REPLACE TEMP VIEW summed AS
SELECT
  u.subscription_source_id, u.meter, u.grain, u.period_start, u.period_end, s.legal_entity_id, s.customer_id,
  m.aggregation,
  CAST(coalesce(u.quantity, 0) AS DECIMAL(28, 9)) AS quantity,
  CAST(coalesce(u.quantity_in_time, 0) AS DECIMAL(28, 9)) AS quantity_in_time,
  coalesce(m.unit, u.unit) AS unit,
  CAST(u.event_count AS BIGINT) AS event_count,
  CAST(u.corrected_count AS BIGINT) AS corrected_count,
  CAST(u.late_count AS BIGINT) AS late_count,
  left(sha256(u.subscription_source_id || '|' || u.meter || '|' || u.grain || '|' || u.period_start), 16)
    AS correlation_id
FROM (
  SELECT * FROM added_up
  UNION ALL
  SELECT
    p.subscription_source_id, p.meter, p.grain, p.period_start, p.period_end, coalesce(r.quantity, p.quantity),
    coalesce(r.quantity_in_time, p.quantity_in_time), p.unit, p.event_count, p.corrected_count, p.late_count
  FROM pointwise AS p
  LEFT JOIN percentiles AS r
    ON r.subscription_source_id = p.subscription_source_id AND r.meter = p.meter AND r.grain = p.grain
    AND r.period_start = p.period_start
  JOIN meters AS m ON m.meter = p.meter AND m.aggregation <> 'time_weighted'
  UNION ALL
  -- a level holds on days without events too; on a day all of whose events were removed it is what it was before
  SELECT
    coalesce(w.subscription_source_id, p.subscription_source_id), coalesce(w.meter, p.meter),
    coalesce(w.grain, p.grain), coalesce(w.period_start, p.period_start), coalesce(w.period_end, p.period_end),
    w.quantity, w.quantity_in_time, p.unit, coalesce(p.event_count, 0), coalesce(p.corrected_count, 0),
    coalesce(p.late_count, 0)
  FROM weighted AS w
  FULL OUTER JOIN (
    SELECT p.* FROM pointwise AS p JOIN meters AS m ON m.meter = p.meter AND m.aggregation = 'time_weighted'
  ) AS p
    ON p.subscription_source_id = w.subscription_source_id AND p.meter = w.meter AND p.grain = w.grain
    AND p.period_start = w.period_start
) AS u
JOIN meters AS m ON m.meter = u.meter
JOIN subscriptions AS s ON s.source_id = u.subscription_source_id
