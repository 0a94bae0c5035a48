-- Zuora: the objects RatePlanCharge and RatePlanChargeTier as its data exports name them. Overage: the included units
-- are free, each further one has the overage price. Tiered with overage: beyond the last tier's end the overage price.
WITH tier AS (
  SELECT
    t.RatePlanChargeId AS charge, t.*,
    count(*) OVER (PARTITION BY t.RatePlanChargeId) AS tiers,
    row_number() OVER (
      PARTITION BY t.RatePlanChargeId
      ORDER BY coalesce(lower(t.IsOveragePrice), 'false') = 'true', TRY_CAST(t.Tier AS DECIMAL(18, 9)),
        TRY_CAST(t.StartingUnit AS DECIMAL(38, 18))
    ) AS place
  FROM given_zuora_tier AS t
)
SELECT
  'zuora' AS source, c.SubscriptionId AS subscription_source_id, c.UOM AS meter, c.Id AS price_source_id,
  CASE c.ChargeModel
    WHEN 'Flat Fee Pricing' THEN 'flat' WHEN 'Per Unit Pricing' THEN 'unit' WHEN 'Overage Pricing' THEN 'unit'
    WHEN 'Tiered Pricing' THEN 'graduated' WHEN 'Tiered with Overage Pricing' THEN 'graduated'
    WHEN 'Volume Pricing' THEN 'volume'
  END AS model,
  t.place AS tier_no,
  CASE WHEN c.ChargeModel IN ('Tiered Pricing', 'Volume Pricing', 'Tiered with Overage Pricing')
    AND coalesce(lower(t.IsOveragePrice), 'false') <> 'true' THEN TRY_CAST(t.EndingUnit AS DECIMAL(28, 9)) END AS up_to,
  CASE WHEN NOT is_flat THEN TRY_CAST(t.Price AS DECIMAL(28, 12)) END AS unit_amount,
  CASE WHEN is_flat THEN TRY_CAST(t.Price AS DECIMAL(28, 12)) END AS flat_amount,
  CAST(NULL AS DECIMAL(28, 9)) AS package_size, CAST(NULL AS VARCHAR) AS package_round,
  CASE c.ChargeModel WHEN 'Overage Pricing' THEN TRY_CAST(c.IncludedUnits AS DECIMAL(28, 9)) END AS included_quantity,
  CAST(NULL AS DECIMAL(18, 4)) AS minimum_amount,
  t.Currency AS currency, 'line' AS rounding, 'none' AS proration,
  TRY_CAST(c.EffectiveStartDate AS DATE) AS valid_from, TRY_CAST(c.EffectiveEndDate AS DATE) AS valid_to,
  CAST(NULL AS TIMESTAMPTZ) AS starts_at, CAST(NULL AS TIMESTAMPTZ) AS ends_at, CAST(NULL AS VARCHAR) AS zone,
  CASE
    WHEN c.ChargeType <> 'Usage' THEN 'no_usage'
    WHEN t.charge IS NULL THEN 'no_tiers'
    WHEN c.ChargeModel = 'Overage Pricing' AND TRY_CAST(c.IncludedUnits AS DECIMAL(28, 9)) IS NULL THEN 'no_included'
    WHEN TRY_CAST(t.Price AS DECIMAL(28, 12)) IS NULL THEN 'no_amount'
    WHEN NOT is_number(t.Price, TRY_CAST(t.Price AS DECIMAL(28, 12)))
      OR (t.EndingUnit IS NOT NULL AND NOT is_number(t.EndingUnit, TRY_CAST(t.EndingUnit AS DECIMAL(28, 9))))
      OR (t.Tier IS NOT NULL AND NOT is_number(t.Tier, TRY_CAST(t.Tier AS BIGINT)))
      OR (c.ChargeModel = 'Overage Pricing' AND NOT is_number(c.IncludedUnits, TRY_CAST(c.IncludedUnits AS DECIMAL(28, 9))))
      THEN 'no_number'
    WHEN (c.EffectiveStartDate IS NOT NULL AND NOT is_day(c.EffectiveStartDate, TRY_CAST(c.EffectiveStartDate AS DATE)))
      OR (c.EffectiveEndDate IS NOT NULL AND NOT is_day(c.EffectiveEndDate, TRY_CAST(c.EffectiveEndDate AS DATE)))
      THEN 'no_date'
  END AS reason_code
FROM given_zuora_charge AS c
LEFT JOIN (
  SELECT t.*, c.ChargeModel = 'Flat Fee Pricing' OR t.PriceFormat = 'Flat Fee' AS is_flat
  FROM tier AS t JOIN given_zuora_charge AS c ON c.Id = t.charge
) AS t ON t.charge = c.Id
