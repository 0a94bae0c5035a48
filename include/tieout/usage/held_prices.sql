-- Which price a subscription had for each meter, and from when to when: an item that took another's place holds from the
-- day it was made; of two made on one day neither goes before the other.
CREATE OR REPLACE TEMP TABLE held_price AS
WITH item AS (
  SELECT
    source, subscription_source_id, source_id AS item_id, meter, price_source_id, unit_amount, currency,
    interval_months, interval_days, accounting_date AS made_on
  FROM given_subscription_item
  WHERE meter IS NOT NULL AND NOT coalesce(is_deleted, false)
), made AS (
  SELECT source, subscription_source_id, meter, made_on,
    lag(made_on) OVER (PARTITION BY source, subscription_source_id, meter ORDER BY made_on) AS earlier,
    lead(made_on) OVER (PARTITION BY source, subscription_source_id, meter ORDER BY made_on) AS later
  FROM (SELECT DISTINCT source, subscription_source_id, meter, made_on FROM item WHERE made_on IS NOT NULL) AS days
)
SELECT
  i.*, CASE WHEN m.earlier IS NOT NULL THEN i.made_on END AS valid_from, m.later AS valid_to
FROM item AS i
LEFT JOIN made AS m
  ON m.source IS NOT DISTINCT FROM i.source AND m.subscription_source_id = i.subscription_source_id AND m.meter = i.meter
  AND m.made_on = i.made_on
