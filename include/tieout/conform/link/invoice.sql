-- An invoice's customer, and why it cannot be posted: a line whose product has no family, naming the products.
WITH gaps AS (
  SELECT source, invoice_source_id AS source_id,
    string_agg(DISTINCT coalesce(product_source_id, 'a line without a product'), ', ' ORDER BY coalesce(product_source_id, 'a line without a product')) AS products
  FROM invoice_line
  WHERE product_family IS NULL
  GROUP BY ALL
)
SELECT m.* REPLACE (
  c.canonical_id AS customer_id,
  CASE WHEN g.products IS NOT NULL THEN 'no product family is mapped for ' || g.products END AS mapping_gap
)
FROM merged_invoice m
LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = m.customer_source_id
LEFT JOIN gaps g ON g.source = m.source AND g.source_id = m.source_id
