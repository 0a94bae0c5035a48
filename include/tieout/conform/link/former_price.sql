-- A former price's product; the meter, where the price does not say it, is the product's.
WITH meters AS (
  SELECT id AS product_id, min(meter) AS meter FROM product WHERE meter IS NOT NULL GROUP BY ALL HAVING count(DISTINCT meter) = 1
)
SELECT m.* REPLACE (
  p.canonical_id AS product_id,
  p.family AS product_family,
  coalesce(m.meter, k.meter) AS meter
)
FROM merged_former_price m
LEFT JOIN product_mapping p ON p.source = m.source AND p.source_id = m.product_source_id
  AND coalesce(m.accounting_date, DATE '9999-12-30') >= p.valid_from
  AND coalesce(m.accounting_date, DATE '9999-12-30') < p.valid_to
LEFT JOIN meters k ON k.product_id = p.canonical_id
