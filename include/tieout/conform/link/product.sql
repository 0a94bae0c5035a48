-- A product's canonical id, and its family by the mapping's latest row.
SELECT m.* REPLACE (
  coalesce(x.canonical_id, m.source || ':' || m.source_id) AS id,
  f.family AS family,
  coalesce(x.decided_by, 'none') AS decided_by
)
FROM merged_product m
LEFT JOIN crosswalk x ON x.entity = 'product' AND x.source = m.source AND x.source_id = m.source_id
LEFT JOIN (
  SELECT * FROM product_mapping QUALIFY row_number() OVER (PARTITION BY source, source_id ORDER BY valid_to DESC) = 1
) f ON f.source = m.source AND f.source_id = m.source_id
