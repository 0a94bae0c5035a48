-- The plain billing periods, nearly all: one price holds all through, and its numbers are small enough for the engine's
-- 64-bit decimals, whose products and quotients cost a tenth of wider ones and are as exact. The rest goes by
-- `choice.sql` and `charges.sql`, which know every case.
CREATE OR REPLACE TEMP TABLE plain_price AS
WITH dated AS (
  SELECT
    *, coalesce(valid_from, DATE '0001-01-01') AS first_day, coalesce(valid_to, DATE '9999-12-31') AS after_day
  FROM price
), judged AS (
  SELECT
    *,
    coalesce(max(after_day) OVER (
      PARTITION BY subscription_source_id, meter ORDER BY first_day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) > first_day, false) AS collides,
    coalesce(max(after_day) OVER (
      PARTITION BY subscription_source_id, meter, currency
      ORDER BY first_day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) > first_day, false) AS collides_in_currency
  FROM dated
), sized AS (
  -- the doubles only judge the size, and keep a factor of two from what a product of 18 digits holds; packages smaller
  -- than a unit are more than the units, and each tier may begin one package more
  SELECT
    price_no, least(1e8, 4e7 / greatest(max(abs(coalesce(unit_amount, 0))), 0.0000001)) AS most,
    bool_and(
      coalesce(TRY_CAST(unit_amount AS DECIMAL(18, 7)) = unit_amount, unit_amount IS NULL)
      AND coalesce(TRY_CAST(flat_amount AS DECIMAL(18, 7)) = flat_amount, flat_amount IS NULL)
      AND coalesce(TRY_CAST(up_to AS DECIMAL(18, 3)) = up_to, up_to IS NULL)
      AND coalesce(TRY_CAST(package_size AS DECIMAL(18, 3)) = package_size, package_size IS NULL)
    ) AND coalesce(min(package_size), 1) >= 1
      AND max(abs(coalesce(unit_amount, 0))) * greatest(count(package_size), 1) < 10000000
      AND sum(abs(coalesce(flat_amount, 0))) < 10000000 AS small
  FROM tier
  GROUP BY price_no
)
SELECT
  j.*,
  CASE
    WHEN j.fault IS NULL AND j.proration = 'none' AND s.small
      AND TRY_CAST(j.included_quantity AS DECIMAL(18, 3)) = j.included_quantity
      THEN CAST(least(CAST(s.most AS DECIMAL(28, 9)), j.ends_at_quantity + j.included_quantity) AS DECIMAL(18, 3))
  END AS most
FROM judged AS j
JOIN sized AS s USING (price_no);

-- At most one row for any subscription, meter, currency and day. A key whose own prices collide is held by a row that
-- no quantity is plain for, so that no general price is taken for it.
CREATE OR REPLACE TEMP TABLE own_price AS
SELECT p.subscription_source_id, p.meter, first_day, after_day, price_no, most
FROM plain_price AS p
WHERE p.subscription_source_id IS NOT NULL
QUALIFY NOT bool_or(collides) OVER (PARTITION BY p.subscription_source_id, p.meter)
UNION ALL
SELECT subscription_source_id, meter, DATE '0001-01-01', DATE '9999-12-31', 0, NULL
FROM plain_price
WHERE subscription_source_id IS NOT NULL
GROUP BY subscription_source_id, meter HAVING bool_or(collides);

-- a subscription whose currency is not known (an empty text here) takes a price of any
CREATE OR REPLACE TEMP TABLE general_price AS
SELECT meter, currency, first_day, after_day, price_no, most
FROM plain_price
WHERE subscription_source_id IS NULL
QUALIFY NOT bool_or(collides_in_currency) OVER (PARTITION BY meter, currency)
UNION ALL
SELECT meter, '', first_day, after_day, price_no, most
FROM plain_price
WHERE subscription_source_id IS NULL
QUALIFY NOT bool_or(collides) OVER (PARTITION BY meter);

CREATE OR REPLACE TEMP TABLE used AS
SELECT
  u.subscription_source_id, u.meter, u.period_start, u.period_end, u.quantity, u.currency, u.small,
  coalesce(o.price_no, g.price_no) AS price_no,
  coalesce(u.small = u.narrow AND u.small <= CASE WHEN o.price_no IS NULL THEN g.most ELSE o.most END, false) AS plain
FROM (
  SELECT *, CAST(narrow AS DECIMAL(18, 3)) AS small
  FROM (
    SELECT g.*, s.currency, TRY_CAST(g.quantity AS DECIMAL(18, 9)) AS narrow
    FROM given_usage_summary AS g
    LEFT JOIN subscription_currency AS s ON s.source_id = g.subscription_source_id
    WHERE g.grain = 'period' AND g.period_end > $start AND g.period_end <= $end
  )
) AS u
LEFT JOIN own_price AS o
  ON o.subscription_source_id = u.subscription_source_id AND o.meter = u.meter
  AND o.first_day < u.period_end AND o.after_day >= u.period_end
LEFT JOIN general_price AS g
  ON g.meter = u.meter AND g.currency = coalesce(u.currency, '')
  AND g.first_day < u.period_end AND g.after_day >= u.period_end;

-- Texts that repeat from line to line are written as numbers of a list, at a third of the cost.
CREATE OR REPLACE TEMP TYPE one_of_prices AS ENUM (SELECT DISTINCT price_source_id FROM plain_price WHERE most IS NOT NULL);

CREATE OR REPLACE TEMP TYPE one_of_meters AS ENUM (SELECT DISTINCT meter FROM plain_price WHERE most IS NOT NULL);

CREATE OR REPLACE TEMP TYPE one_of_currencies AS ENUM (SELECT DISTINCT currency FROM plain_price WHERE most IS NOT NULL);

-- What a tier charges that is used up is known before any usage is seen: only the last tier reached is left to compute.
CREATE OR REPLACE TEMP TABLE plain_tier AS
WITH full_tier AS (
  SELECT
    t.price_no, t.tier_no, p.rounding, p.digits,
    counted(t.up_to - t.from_quantity, t.package_size, t.package_round) AS quantity,
    CAST(counted(t.up_to - t.from_quantity, t.package_size, t.package_round)
      * CAST(coalesce(t.unit_amount, 0) AS DECIMAL(28, 12))
      + CAST(coalesce(t.flat_amount, 0) AS DECIMAL(38, 21)) AS DECIMAL(38, 21)) AS exact
  FROM tier AS t
  JOIN plain_price AS p USING (price_no)
  WHERE p.most IS NOT NULL AND p.model = 'graduated'
    -- a tier beyond what plain usage reaches is never full
    AND t.up_to <= p.most
), summed AS (
  SELECT *, CAST(coalesce(sum(exact) OVER below, 0) AS DECIMAL(38, 21)) AS exact_below
  FROM full_tier
  WINDOW below AS (PARTITION BY price_no ORDER BY tier_no ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), rounded AS (
  SELECT *, CASE rounding
      WHEN 'total' THEN at_minor_unit(exact_below + exact, digits) - at_minor_unit(exact_below, digits)
      ELSE at_minor_unit(exact, digits) END AS amount,
    exact <> 0 OR quantity <> 0 AS listed
  FROM summed
), tiered AS (
  SELECT t.price_no, t.tier_no, max(f.tier_no) FILTER (f.listed) AS listed_below,
    coalesce(sum(f.exact), 0) AS exact_below, coalesce(sum(f.amount), 0) AS amount_below
  FROM tier AS t
  LEFT JOIN rounded AS f ON f.price_no = t.price_no AND f.tier_no < t.tier_no
  GROUP BY ALL
)
SELECT
  t.price_no, t.tier_no, p.model, p.rounding, p.digits,
  CAST(t.from_quantity AS DECIMAL(18, 3)) AS from_quantity, CAST(t.up_to AS DECIMAL(18, 3)) AS up_to,
  CAST(t.package_size AS DECIMAL(18, 3)) AS package_size, t.package_round,
  CAST(p.included_quantity AS DECIMAL(18, 3)) AS included_quantity, p.minimum_amount,
  CASE WHEN p.model <> 'flat' THEN t.unit_amount END AS unit_amount, t.flat_amount,
  CAST(CASE WHEN p.model <> 'flat' THEN coalesce(t.unit_amount, 0) ELSE 0 END AS DECIMAL(18, 7)) AS unit,
  CAST(coalesce(t.flat_amount, 0) AS DECIMAL(18, 10)) AS flat,
  CAST(f.quantity AS DECIMAL(18, 3)) AS full_quantity, CAST(f.exact AS DECIMAL(18, 10)) AS full_exact,
  f.amount AS full_amount,
  coalesce(b.listed_below, 0) AS listed_below, CAST(b.exact_below AS DECIMAL(18, 10)) AS exact_below,
  CAST(b.amount_below AS DECIMAL(18, 4)) AS amount_below,
  CAST(p.price_source_id AS one_of_prices) AS price_source_id, CAST(p.meter AS one_of_meters) AS meter,
  CAST(p.currency AS one_of_currencies) AS currency
FROM tier AS t
JOIN plain_price AS p USING (price_no)
JOIN tiered AS b ON b.price_no = t.price_no AND b.tier_no = t.tier_no
LEFT JOIN rounded AS f ON f.price_no = t.price_no AND f.tier_no = t.tier_no
WHERE p.most IS NOT NULL AND (p.model <> 'graduated' OR t.from_quantity < p.most OR t.tier_no = 1);

-- one row per plain billing period and tier that it reaches; a view: it is read once, into the lines
CREATE OR REPLACE TEMP VIEW plain_charge AS
SELECT *,
  CASE WHEN is_full THEN full_amount
    WHEN rounding = 'total' THEN CAST(at_minor_unit(CAST(exact_below + exact_amount AS DECIMAL(18, 10)), digits)
      - amount_below AS DECIMAL(18, 4))
    ELSE at_minor_unit(exact_amount, digits) END AS amount,
  exact_amount <> 0 OR quantity <> 0 AS listed
FROM (
  SELECT *,
    CASE WHEN is_full THEN full_exact ELSE CAST(quantity * unit + flat AS DECIMAL(18, 10)) END AS exact_amount
  FROM (
    SELECT *,
      CAST(CASE
        WHEN is_full THEN full_quantity
        WHEN model = 'flat' THEN 1
        WHEN package_size IS NULL THEN units
        ELSE (CAST(units * 1000 AS BIGINT)
          + CASE WHEN package_round = 'up' THEN CAST(package_size * 1000 AS BIGINT) - 1 ELSE 0 END)
          // CAST(package_size * 1000 AS BIGINT)
      END AS DECIMAL(18, 3)) AS quantity
    FROM (
      SELECT *,
        coalesce(model = 'graduated' AND up_to <= charged, false) AS is_full,
        CAST(CASE WHEN model = 'graduated' THEN charged - from_quantity ELSE charged END AS DECIMAL(18, 3)) AS units
      FROM (
        SELECT u.subscription_source_id, u.period_start, u.period_end, u.small AS used, t.*,
          CAST(greatest(u.small - t.included_quantity, 0) AS DECIMAL(18, 3)) AS charged
        FROM used AS u
        JOIN plain_tier AS t USING (price_no)
        WHERE u.plain
      )
      -- the first tier charges its flat amount without usage too
      WHERE (from_quantity < charged OR tier_no = 1) AND (model <> 'volume' OR up_to IS NULL OR up_to >= charged)
    )
  )
);
