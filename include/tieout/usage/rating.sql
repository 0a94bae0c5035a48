-- Usage priced by the book: which price holds for a billing period, which tiers it reaches, what each charges.
CREATE OR REPLACE TEMP TABLE book AS
SELECT
  *,
  CASE
    WHEN NOT currency_known THEN 'unknown_currency'
    WHEN tier_no <> place OR (up_to IS NULL) <> (place = tiers AND up_to IS NULL) OR up_to <= from_quantity
      OR (model NOT IN ('graduated', 'volume') AND tiers > 1)
      OR (model = 'flat' AND flat_amount IS NULL)
      OR (model IN ('unit', 'package') AND unit_amount IS NULL)
      OR (model IN ('graduated', 'volume') AND unit_amount IS NULL AND flat_amount IS NULL)
      OR (model = 'package' AND coalesce(package_size, 0) <= 0)
      OR coalesce(package_round, 'up') NOT IN ('up', 'down')
      OR model NOT IN ('flat', 'unit', 'package', 'graduated', 'volume') THEN 'broken_price'
  END AS fault
FROM (
  SELECT
    b.*,
    d.digits,
    d.digits IS NOT NULL AS currency_known,
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
  price_source_id, subscription_source_id, meter, valid_from,
  any_value(valid_to) AS valid_to,
  any_value(model) AS model,
  any_value(package_size) AS package_size,
  any_value(package_round) AS package_round,
  coalesce(any_value(included_quantity), 0) AS included_quantity,
  coalesce(any_value(minimum_amount), 0) AS minimum_amount,
  any_value(currency) AS currency,
  any_value(digits) AS digits,
  max(fault) AS fault,
  CASE WHEN count(*) = count(up_to) AND any_value(model) IN ('graduated', 'volume') THEN max(up_to) END AS ends_at,
  max(greatest(abs(coalesce(unit_amount, 0)), 1)) AS dearest
FROM book
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE wanted AS
SELECT subscription_source_id, meter, period_start, period_end, quantity
FROM given_usage_summary
WHERE grain = 'period' AND period_end > $start AND period_end <= $end;

-- The price in force on the period's last day; a price agreed with the subscription goes before the general one.
CREATE OR REPLACE TEMP TABLE priced AS
SELECT
  *,
  CASE
    WHEN candidates = 0 THEN 'no_price'
    WHEN candidates > 1 THEN 'two_prices'
    WHEN fault IS NOT NULL THEN fault
    WHEN ends_at < charged THEN 'broken_price'
    -- beyond what an exact product holds; the doubles only judge the size
    WHEN CAST(charged AS DOUBLE) * CAST(dearest AS DOUBLE) >= 1e16 THEN 'too_large'
  END AS reason_code
FROM (
  SELECT
    w.subscription_source_id, w.meter, w.period_start, w.period_end, w.quantity,
    p.* EXCLUDE (subscription_source_id, meter, valid_from, valid_to),
    p.subscription_source_id AS price_subscription, p.valid_from AS price_valid_from,
    greatest(w.quantity - p.included_quantity, 0) AS charged,
    count(p.price_source_id) OVER one AS candidates,
    row_number() OVER (PARTITION BY w.subscription_source_id, w.meter, w.period_start ORDER BY p.price_source_id) AS choice
  FROM wanted AS w
  LEFT JOIN price AS p
    ON p.meter = w.meter
    AND (p.subscription_source_id = w.subscription_source_id
      OR (p.subscription_source_id IS NULL AND NOT EXISTS (
        FROM price AS own
        WHERE own.subscription_source_id = w.subscription_source_id AND own.meter = w.meter
          AND coalesce(own.valid_from, w.period_end - 1) <= w.period_end - 1
          AND coalesce(own.valid_to, w.period_end) > w.period_end - 1)))
    AND coalesce(p.valid_from, w.period_end - 1) <= w.period_end - 1
    AND coalesce(p.valid_to, w.period_end) > w.period_end - 1
  WINDOW one AS (PARTITION BY w.subscription_source_id, w.meter, w.period_start)
)
WHERE choice = 1;

CREATE OR REPLACE TEMP TABLE tier_charge AS
SELECT
  *,
  CAST(quantity AS DECIMAL(28, 9)) * CAST(coalesce(unit_amount, 0) AS DECIMAL(28, 12))
    + CAST(coalesce(flat_amount, 0) AS DECIMAL(38, 21)) AS exact_amount
FROM (
  SELECT
    p.subscription_source_id, p.meter, p.period_start, p.period_end, p.price_source_id, p.model, p.currency, p.digits,
    p.minimum_amount, p.quantity AS used, p.included_quantity, b.tier_no, b.package_size,
    CAST(CASE p.model
      WHEN 'flat' THEN 1
      WHEN 'package' THEN
        -- whole packages in billionths of a unit: a decimal quotient would be a binary float
        (CAST(p.charged * 1000000000 AS HUGEINT)
          + CASE WHEN coalesce(p.package_round, 'up') = 'up' THEN CAST(p.package_size * 1000000000 AS HUGEINT) - 1 ELSE 0 END)
        // CAST(p.package_size * 1000000000 AS HUGEINT)
      WHEN 'graduated' THEN least(p.charged, coalesce(b.up_to, p.charged)) - b.from_quantity
      ELSE p.charged
    END AS DECIMAL(28, 9)) AS quantity,
    CASE WHEN p.model <> 'flat' THEN b.unit_amount END AS unit_amount,
    b.flat_amount
  FROM priced AS p
  JOIN book AS b
    ON b.price_source_id = p.price_source_id AND b.meter = p.meter
    AND b.subscription_source_id IS NOT DISTINCT FROM p.price_subscription
    AND b.valid_from IS NOT DISTINCT FROM p.price_valid_from
  WHERE p.reason_code IS NULL
    AND (p.model NOT IN ('graduated', 'volume')
      -- the first tier charges its flat amount without usage too
      OR (p.model = 'graduated' AND (b.from_quantity < p.charged OR b.tier_no = 1))
      OR (p.model = 'volume' AND (b.from_quantity < p.charged OR b.tier_no = 1)
        AND (b.up_to IS NULL OR b.up_to >= p.charged)))
);

CREATE OR REPLACE TEMP TABLE rounded AS
SELECT
  *,
  -- each branch cast by itself: a common type of all would keep no places
  CASE digits
    WHEN 0 THEN CAST(round(exact_amount, 0) AS DECIMAL(18, 4))
    WHEN 2 THEN CAST(round(exact_amount, 2) AS DECIMAL(18, 4))
    WHEN 3 THEN CAST(round(exact_amount, 3) AS DECIMAL(18, 4))
    ELSE CAST(exact_amount AS DECIMAL(18, 4))
  END AS amount
FROM tier_charge;
