-- The price book: prices, their tiers, and what is wrong with them.
CREATE OR REPLACE TEMP TABLE book AS
SELECT
  *,
  CASE
    WHEN digits IS NULL THEN 'unknown_currency'
    WHEN tier_no <> place OR (up_to IS NULL) <> (place = tiers AND up_to IS NULL) OR up_to <= from_quantity
      OR (model NOT IN ('graduated', 'volume') AND tiers > 1)
      OR (model = 'flat' AND flat_amount IS NULL)
      OR (model IN ('unit', 'package') AND unit_amount IS NULL)
      OR (model IN ('graduated', 'volume') AND unit_amount IS NULL AND flat_amount IS NULL)
      OR (model = 'package' AND package_size IS NULL) OR package_size <= 0
      OR package_round NOT IN ('up', 'down') OR rounding NOT IN ('line', 'total')
      OR proration NOT IN ('none', 'day', 'second') OR valid_to <= valid_from OR ends_at <= starts_at
      OR model NOT IN ('flat', 'unit', 'package', 'graduated', 'volume') THEN 'broken_price'
  END AS fault
FROM (
  SELECT
    b.* REPLACE (
      coalesce(b.package_round, 'up') AS package_round, coalesce(b.rounding, 'line') AS rounding,
      coalesce(b.proration, 'none') AS proration, coalesce(b.zone, 'UTC') AS zone
    ),
    d.digits,
    coalesce(lag(b.up_to) OVER tier, 0) AS from_quantity,
    row_number() OVER tier AS place,
    count(*) OVER price AS tiers
  FROM given_price_book AS b
  LEFT JOIN currency_digits AS d ON d.currency = b.currency
  WINDOW
    price AS (PARTITION BY b.price_source_id, b.subscription_source_id, b.meter, b.valid_from),
    tier AS (PARTITION BY b.price_source_id, b.subscription_source_id, b.meter, b.valid_from ORDER BY b.tier_no)
);

CREATE OR REPLACE TEMP TABLE price AS
SELECT
  row_number() OVER (ORDER BY price_source_id, subscription_source_id, meter, valid_from) AS price_no, *
FROM (
  SELECT
    price_source_id, subscription_source_id, meter, valid_from,
    any_value(valid_to) AS valid_to, any_value(starts_at) AS starts_at, any_value(ends_at) AS ends_at,
    any_value(zone) AS zone, any_value(model) AS model, any_value(rounding) AS rounding,
    any_value(proration) AS proration,
    coalesce(any_value(included_quantity), 0) AS included_quantity,
    coalesce(any_value(minimum_amount), 0) AS minimum_amount,
    any_value(currency) AS currency, any_value(digits) AS digits, max(fault) AS fault,
    CASE WHEN count(*) = count(up_to) AND any_value(model) IN ('graduated', 'volume') THEN max(up_to) END AS ends_at_quantity,
    -- a double only judges the size: what a unit costs at most, where packages may be smaller than a unit
    coalesce(max(CAST(abs(unit_amount) AS DOUBLE) * per_unit), 0) AS dearest,
    max(per_unit) AS densest,
    -- what is charged whatever the quantity, and a package begun in each tier
    sum(abs(coalesce(CAST(flat_amount AS DOUBLE), 0)))
      + coalesce(sum(abs(CAST(unit_amount AS DOUBLE))) FILTER (package_size IS NOT NULL), 0)
      + coalesce(abs(CAST(any_value(minimum_amount) AS DOUBLE)), 0) AS fixed
  FROM (
    SELECT *, CASE WHEN package_size > 0 AND package_size < 1 THEN 1 / CAST(package_size AS DOUBLE) ELSE 1 END AS per_unit
    FROM book
  )
  GROUP BY ALL
);

CREATE OR REPLACE TEMP TABLE tier AS
SELECT p.price_no, b.tier_no, b.from_quantity, b.up_to, b.unit_amount, b.flat_amount, b.package_size, b.package_round
FROM book AS b
JOIN price AS p
  ON p.price_source_id = b.price_source_id AND p.meter = b.meter
  AND p.subscription_source_id IS NOT DISTINCT FROM b.subscription_source_id
  AND p.valid_from IS NOT DISTINCT FROM b.valid_from;
