-- Usage priced by the book: which price holds for a billing period, which tiers it reaches, what each charges.
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
    max(greatest(abs(coalesce(unit_amount, 0)), 1)) AS dearest
  FROM book
  GROUP BY ALL
);

CREATE OR REPLACE TEMP TABLE tier AS
SELECT p.price_no, b.tier_no, b.from_quantity, b.up_to, b.unit_amount, b.flat_amount, b.package_size, b.package_round
FROM book AS b
JOIN price AS p
  ON p.price_source_id = b.price_source_id AND p.meter = b.meter
  AND p.subscription_source_id IS NOT DISTINCT FROM b.subscription_source_id
  AND p.valid_from IS NOT DISTINCT FROM b.valid_from;

CREATE OR REPLACE TEMP TABLE wanted AS
SELECT
  row_number() OVER () AS usage_no,
  u.subscription_source_id, u.meter, u.period_start, u.period_end, u.quantity, s.currency
FROM given_usage_summary AS u
LEFT JOIN subscription_currency AS s ON s.source_id = u.subscription_source_id
WHERE u.grain = 'period' AND u.period_end > $start AND u.period_end <= $end;

-- The price in force on the period's last day; a price agreed with the subscription goes before the general one, and of
-- general ones only those in the subscription's currency count.
CREATE OR REPLACE TEMP TABLE choice AS
WITH own AS (
  SELECT w.usage_no, p.price_no
  FROM wanted AS w
  JOIN price AS p ON p.subscription_source_id = w.subscription_source_id AND p.meter = w.meter
  WHERE (p.valid_from IS NULL OR p.valid_from < w.period_end) AND (p.valid_to IS NULL OR p.valid_to >= w.period_end)
), general AS (
  SELECT w.usage_no, p.price_no
  FROM (SELECT * FROM wanted ANTI JOIN own USING (usage_no)) AS w
  JOIN price AS p ON p.subscription_source_id IS NULL AND p.meter = w.meter
  WHERE (p.valid_from IS NULL OR p.valid_from < w.period_end) AND (p.valid_to IS NULL OR p.valid_to >= w.period_end)
    AND (w.currency IS NULL OR w.currency = p.currency)
)
SELECT usage_no, min(price_no) AS price_no, count(*) AS candidates
FROM (FROM own UNION ALL FROM general)
GROUP BY usage_no;

-- What is rated as a whole: a price that is in force on the last day and not prorated, or none that could be.
CREATE OR REPLACE TEMP TABLE part AS
SELECT w.usage_no, c.price_no, w.quantity, 1 AS share, 1 AS whole,
  CASE
    WHEN c.price_no IS NULL THEN 'no_price'
    WHEN c.candidates > 1 THEN 'two_prices'
  END AS reason_code
FROM wanted AS w
LEFT JOIN choice AS c USING (usage_no);
