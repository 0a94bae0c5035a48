-- Billing periods without usage for which a price charges something all the same. What `rate` chooses among the prices
-- in force is left to it: here an own price goes before the general ones, and one that charges is enough.
CREATE OR REPLACE TEMP TABLE subscriptions AS
SELECT l.*, s.currency, s.trial_end, CAST(s.ended_at AS DATE) AS ended_on
FROM subscription_list AS l
JOIN given_subscription AS s ON s.source_id = l.source_id
-- those whose first payment failed never ran
WHERE NOT coalesce(s.is_deleted, false) AND coalesce(s.status, '') NOT IN ('incomplete', 'incomplete_expired');

CREATE OR REPLACE TEMP TABLE book_price AS
SELECT
  subscription_source_id, meter, price_source_id, currency, coalesce(proration, 'none') <> 'none' AS prorated,
  coalesce(valid_from, DATE '0001-01-01') AS first_day, coalesce(valid_to, DATE '9999-12-31') AS after_day,
  (tier_no = 1 AND coalesce(flat_amount, 0) <> 0) OR coalesce(minimum_amount, 0) > 0 AS charges
FROM unused_book;

-- The days on which subscriptions have a metered price. An item added later has it from the day it was made.
CREATE OR REPLACE TEMP TABLE metered AS
WITH held AS (
  SELECT
    h.subscription_source_id, h.meter, greatest(coalesce(s.start_date, s.anchor), h.made_on) AS first_day,
    least(h.valid_to, coalesce(h.ended_date, s.ended_on)) AS after_day
  FROM held_price AS h
  JOIN subscriptions AS s ON s.source_id = h.subscription_source_id
  UNION ALL
  SELECT p.subscription_source_id, p.meter, coalesce(s.start_date, s.anchor), s.ended_on
  FROM book_price AS p
  JOIN subscriptions AS s ON s.source_id = p.subscription_source_id
  WHERE NOT EXISTS (
    FROM held_price AS h
    WHERE h.subscription_source_id = p.subscription_source_id AND h.meter = p.meter)
)
SELECT
  subscription_source_id, meter, min(first_day) AS first_day,
  least(max(coalesce(after_day, DATE '9999-12-31')), $until) AS after_day
FROM held
WHERE meter IN (SELECT meter FROM book_price WHERE charges)
GROUP BY subscription_source_id, meter;

-- Days enough to find every billing period by: none is shorter than its interval, a month being 28 days at least, but the
-- first and those cut at the anchor or where the interval changes.
CREATE OR REPLACE TEMP TABLE used_days AS
WITH running AS (
  SELECT m.subscription_source_id, m.meter, m.first_day, m.after_day, s.anchor,
    least(28, coalesce(i.days, s.days, 28)) AS step
  FROM metered AS m
  JOIN subscriptions AS s ON s.source_id = m.subscription_source_id
  LEFT JOIN (
    SELECT subscription_source_id, meter, min(coalesce(days, 28)) AS days FROM meter_intervals GROUP BY ALL
  ) AS i USING (subscription_source_id, meter)
  WHERE m.first_day < m.after_day
), turn AS (
  SELECT subscription_source_id, meter, CAST(anchor - n AS DATE) AS usage_day
  FROM running CROSS JOIN (VALUES (0), (1)) AS d(n)
  UNION
  SELECT subscription_source_id, meter, CAST(i.first_day - n AS DATE)
  FROM meter_intervals AS i CROSS JOIN (VALUES (0), (1)) AS d(n)
  WHERE i.first_day > DATE '0001-01-01'
)
SELECT
  subscription_source_id, meter,
  CAST(unnest(generate_series(first_day, after_day - 1, to_days(CAST(step AS INTEGER)))) AS DATE) AS usage_day
FROM running
UNION
SELECT subscription_source_id, meter, CAST(after_day - 1 AS DATE) FROM running
UNION
SELECT t.subscription_source_id, t.meter, t.usage_day
FROM turn AS t
JOIN running AS r USING (subscription_source_id, meter)
WHERE t.usage_day >= r.first_day AND t.usage_day < r.after_day
