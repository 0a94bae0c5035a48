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
    i.subscription_source_id, i.meter, greatest(coalesce(s.start_date, s.anchor), i.accounting_date) AS first_day,
    coalesce(i.ended_date, s.ended_on) AS after_day
  FROM given_subscription_item AS i
  JOIN subscriptions AS s ON s.source_id = i.subscription_source_id
  WHERE i.meter IS NOT NULL AND NOT coalesce(i.is_deleted, false)
  UNION ALL
  SELECT p.subscription_source_id, p.meter, coalesce(s.start_date, s.anchor), s.ended_on
  FROM book_price AS p
  JOIN subscriptions AS s ON s.source_id = p.subscription_source_id
  WHERE NOT EXISTS (
    FROM given_subscription_item AS i
    WHERE i.subscription_source_id = p.subscription_source_id AND i.meter = p.meter)
)
SELECT
  subscription_source_id, meter, min(first_day) AS first_day,
  least(max(coalesce(after_day, DATE '9999-12-31')), $until) AS after_day
FROM held
WHERE meter IN (SELECT meter FROM book_price WHERE charges)
GROUP BY subscription_source_id, meter;

-- Days enough to find every billing period by: none is shorter than 28 days but the first and those cut at the anchor.
CREATE OR REPLACE TEMP TABLE used_days AS
WITH running AS (
  SELECT subscription_source_id, min(first_day) AS first_day, max(after_day) AS after_day
  FROM metered GROUP BY ALL HAVING min(first_day) < max(after_day)
)
SELECT subscription_source_id, CAST(unnest(generate_series(first_day, after_day - 1, INTERVAL 28 DAY)) AS DATE) AS usage_day
FROM running
UNION
SELECT subscription_source_id, CAST(after_day - 1 AS DATE) FROM running
UNION
SELECT r.subscription_source_id, CAST(s.anchor - n AS DATE)
FROM running AS r
JOIN subscriptions AS s ON s.source_id = r.subscription_source_id
CROSS JOIN (VALUES (0), (1)) AS d(n)
WHERE s.anchor - n >= r.first_day AND s.anchor - n < r.after_day
