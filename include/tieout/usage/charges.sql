-- What each part of a billing period costs: the tiers it reaches, exact, rounded where billing rounds.
CREATE OR REPLACE TEMP TABLE priced AS
SELECT
  a.* EXCLUDE (reason_code),
  greatest(a.quantity - p.included_quantity, 0) AS charged,
  CASE
    WHEN a.reason_code IS NOT NULL THEN a.reason_code
    WHEN p.fault IS NOT NULL THEN p.fault
    WHEN p.ends_at_quantity < a.quantity - p.included_quantity THEN 'broken_price'
    -- beyond what an amount of 18 digits, four of them after the point, or a count holds
    WHEN CAST(a.quantity AS DOUBLE) * p.dearest + p.fixed >= 5e13 OR CAST(a.quantity AS DOUBLE) * p.densest >= 1e16
      THEN 'too_large'
  END AS reason_code
FROM part AS a
LEFT JOIN price AS p USING (price_no);

-- a period of which one part cannot be priced waits as a whole
UPDATE priced SET reason_code = w.reason_code
FROM (SELECT usage_no, min(reason_code) AS reason_code FROM priced WHERE whole > 1 GROUP BY usage_no) AS w
WHERE priced.usage_no = w.usage_no AND w.reason_code IS NOT NULL;

CREATE OR REPLACE TEMP TABLE charge AS
SELECT *, at_minor_unit(exact_amount, digits) AS amount
FROM (SELECT *,
  CAST(quantity AS DECIMAL(28, 9)) * CAST(coalesce(unit_amount, 0) AS DECIMAL(28, 12))
    + CAST(coalesce(flat_amount, 0) AS DECIMAL(38, 21)) AS exact_amount
FROM (
  SELECT
    usage_no, price_no, tier_no, model, currency, digits, rounding, minimum_amount, included_quantity, used, share,
    whole, package_size, unit_amount,
    -- cut to the share of the period; a cut that leaves a rest never ends in 0 or 5, so that rounding it again goes the
    -- way the exact quotient would (ROUND_05UP of the General Decimal Arithmetic Specification)
    CASE WHEN whole = 1 THEN flat_amount ELSE prorated(flat_amount, share, whole) END AS flat_amount,
    CASE WHEN model = 'flat' THEN CAST(1 AS DECIMAL(28, 9)) ELSE counted(units, package_size, package_round) END
      AS quantity
  FROM (
    SELECT
      a.usage_no, a.price_no, a.quantity AS used, a.share, a.whole, p.model, p.currency, p.digits, p.rounding,
      p.minimum_amount, p.included_quantity, t.tier_no, t.package_size, t.package_round,
      CASE WHEN p.model <> 'flat' THEN t.unit_amount END AS unit_amount, t.flat_amount,
      CASE WHEN p.model = 'graduated' THEN least(a.charged, coalesce(t.up_to, a.charged)) - t.from_quantity
        ELSE a.charged END AS units
    FROM priced AS a
    JOIN price AS p USING (price_no)
    JOIN tier AS t USING (price_no)
    WHERE a.reason_code IS NULL
      -- the first tier charges its flat amount without usage too
      AND (p.model NOT IN ('graduated', 'volume') OR t.from_quantity < a.charged OR t.tier_no = 1)
      AND (p.model <> 'volume' OR t.up_to IS NULL OR t.up_to >= a.charged)
  )
));
