-- Stripe: a metered subscription item is priced by its price, per unit, in packages (transform_quantity) or by tiers.
SELECT
  i.source, i.subscription_source_id, i.meter, coalesce(i.price_source_id, i.item_id) AS price_source_id,
  CASE WHEN p.billing_scheme = 'tiered' THEN p.tiers_mode WHEN p.package_size IS NOT NULL THEN 'package' ELSE 'unit' END
    AS model,
  CASE WHEN p.billing_scheme = 'tiered' THEN t.tier_no ELSE 1 END AS tier_no,
  t.up_to,
  CASE WHEN p.billing_scheme = 'tiered' THEN t.unit_amount ELSE coalesce(p.unit_amount, i.unit_amount) END AS unit_amount,
  t.flat_amount, p.package_size, p.package_round,
  CAST(NULL AS DECIMAL(28, 9)) AS included_quantity, CAST(NULL AS DECIMAL(18, 4)) AS minimum_amount,
  coalesce(p.currency, i.currency) AS currency,
  'line' AS rounding, 'none' AS proration, i.valid_from, i.valid_to,
  CAST(NULL AS TIMESTAMPTZ) AS starts_at, CAST(NULL AS TIMESTAMPTZ) AS ends_at, CAST(NULL AS VARCHAR) AS zone,
  CASE
    WHEN p.billing_scheme = 'tiered' AND p.tiers_mode IS NULL THEN 'no_mode'
    WHEN p.billing_scheme = 'tiered' AND t.tier_no IS NULL THEN 'no_tiers'
  END AS reason_code
FROM held_price AS i
LEFT JOIN given_price AS p
  ON p.source IS NOT DISTINCT FROM i.source AND p.source_id = i.price_source_id AND NOT coalesce(p.is_deleted, false)
LEFT JOIN given_price_tier AS t
  ON p.billing_scheme = 'tiered' AND t.source IS NOT DISTINCT FROM p.source AND t.price_source_id = p.source_id
  AND NOT coalesce(t.is_deleted, false)
