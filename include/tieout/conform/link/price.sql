-- A price's product, by the mapping's latest row: a price has no day of its own.
SELECT m.* REPLACE (p.canonical_id AS product_id, p.family AS product_family)
FROM merged_price m
LEFT JOIN (
  SELECT * FROM product_mapping QUALIFY row_number() OVER (PARTITION BY source, source_id ORDER BY valid_to DESC) = 1
) p ON p.source = m.source AND p.source_id = m.product_source_id
