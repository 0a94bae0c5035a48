-- Which price a subscription had for each meter, and from when to when. An item whose price was changed had another until
-- that day; an item that took another's place holds from the day it was made; of two made on one day neither goes before
-- the other. What is not known to have been otherwise was always so.
CREATE OR REPLACE TEMP TABLE held_price AS
WITH told AS (
  SELECT
    source, subscription_source_id, source_id AS item_id, meter, price_source_id, unit_amount, currency,
    interval_months, interval_days, accounting_date AS made_on, ended_date, CAST(NULL AS TIMESTAMPTZ) AS until_at,
    CAST(NULL AS VARCHAR) AS told_by, CAST(NULL AS DATE) AS until_day
  FROM given_subscription_item
  WHERE meter IS NOT NULL AND NOT coalesce(is_deleted, false)
  UNION ALL
  SELECT
    source, subscription_source_id, subscription_item_source_id, meter, price_source_id, unit_amount, currency,
    interval_months, interval_days, start_date, NULL, occurred_at, source_id, accounting_date
  FROM given_former_price
  WHERE meter IS NOT NULL AND NOT coalesce(is_deleted, false)
), followed AS (
  SELECT
    *, lead(price_source_id) OVER (
      PARTITION BY source, subscription_source_id, item_id ORDER BY until_at NULLS LAST, told_by
    ) AS next_price
  FROM told
), changed AS (
  -- most changes of a subscription leave its prices as they were
  SELECT
    *, lag(until_day) OVER (
      PARTITION BY source, subscription_source_id, item_id ORDER BY until_at NULLS LAST, told_by
    ) AS changed_on
  FROM followed
  WHERE until_at IS NULL OR next_price IS DISTINCT FROM price_source_id
), made AS (
  SELECT source, subscription_source_id, meter, made_on,
    lag(made_on) OVER (PARTITION BY source, subscription_source_id, meter ORDER BY made_on) AS earlier,
    lead(made_on) OVER (PARTITION BY source, subscription_source_id, meter ORDER BY made_on) AS later
  FROM (SELECT DISTINCT source, subscription_source_id, meter, made_on FROM told WHERE made_on IS NOT NULL) AS days
), dated AS (
  SELECT
    c.source, c.subscription_source_id, c.item_id, c.meter, c.price_source_id, c.unit_amount, c.currency,
    c.interval_months, c.interval_days, c.made_on, c.ended_date,
    coalesce(c.changed_on, CASE WHEN m.earlier IS NOT NULL THEN c.made_on END) AS valid_from,
    coalesce(c.until_day, CASE WHEN c.changed_on IS NULL OR c.changed_on < m.later THEN m.later END) AS valid_to
  FROM changed AS c
  LEFT JOIN made AS m
    ON m.source IS NOT DISTINCT FROM c.source AND m.subscription_source_id = c.subscription_source_id
    AND m.meter = c.meter AND m.made_on = c.made_on
)
SELECT *
FROM dated
-- changed twice on one day
WHERE valid_from IS NULL OR valid_to IS NULL OR valid_from < valid_to
