-- Which canonical id each source's customer and product has, and how that was decided.
-- Order: the master's own records, an explicit mapping, the master's id carried by the record, a rule. Two candidates
-- of one step leave the record undecided.
WITH customers AS (
  SELECT 'customer' AS entity, source, source_id, external_ref, lower(trim(name)) AS name, is_deleted,
    source IN (SELECT source FROM master_sources) AS is_master
  FROM merged_customer
), master AS (
  SELECT source_id, left(source_id, 15) AS short_id, $prefix || source_id AS canonical_id, name
  FROM customers WHERE is_master AND NOT is_deleted
), mapped AS (
  SELECT source, source_id, max(canonical_id) AS canonical_id, max(valid_from) AS valid_from, max(valid_to) AS valid_to
  FROM customer_mapping WHERE valid_to = DATE '9999-12-31' GROUP BY ALL
), shared AS (
  SELECT c.source, c.source_id, min(m.canonical_id) AS canonical_id, count(DISTINCT m.canonical_id) AS candidates
  FROM customers c
  -- the CRM writes its ids with 18 characters, of which the last three only check the case of the others
  JOIN master m ON left(c.external_ref, 15) = m.short_id AND c.external_ref IN (m.source_id, m.short_id)
  WHERE NOT c.is_master
  GROUP BY ALL
), named AS (
  SELECT c.source, c.source_id, min(m.canonical_id) AS canonical_id, count(DISTINCT m.canonical_id) AS candidates
  FROM customers c JOIN master m USING (name)
  WHERE $by_name AND NOT c.is_master AND c.external_ref IS NULL
  GROUP BY ALL
), decided AS (
  SELECT
    c.entity, c.source, c.source_id,
    CASE
      WHEN c.is_master THEN $prefix || c.source_id
      WHEN p.source_id IS NOT NULL THEN p.canonical_id
      WHEN s.candidates = 1 THEN s.canonical_id
      WHEN s.candidates IS NULL AND n.candidates = 1 THEN n.canonical_id
    END AS canonical_id,
    CASE
      WHEN c.is_master THEN 'own'
      WHEN p.source_id IS NOT NULL THEN 'mapping'
      WHEN s.candidates = 1 THEN 'shared_id'
      WHEN s.candidates IS NULL AND n.candidates = 1 THEN 'rule'
      ELSE 'none'
    END AS decided_by,
    CASE WHEN c.is_master OR p.source_id IS NOT NULL THEN 1 ELSE coalesce(s.candidates, n.candidates, 0) END AS candidates,
    p.valid_from, p.valid_to
  FROM customers c
  LEFT JOIN mapped p USING (source, source_id)
  LEFT JOIN shared s USING (source, source_id)
  LEFT JOIN named n USING (source, source_id)
), products AS (
  SELECT 'product' AS entity, source, source_id, external_ref, source IN (SELECT source FROM master_sources) AS is_master
  FROM merged_product
), decided_products AS (
  SELECT
    p.entity, p.source, p.source_id,
    CASE
      WHEN m.source_id IS NOT NULL THEN m.canonical_id
      WHEN p.is_master THEN $prefix || p.source_id
      WHEN o.source_id IS NOT NULL THEN $prefix || o.source_id
    END AS canonical_id,
    CASE
      WHEN m.source_id IS NOT NULL THEN 'mapping'
      WHEN p.is_master THEN 'own'
      WHEN o.source_id IS NOT NULL THEN 'shared_id'
      ELSE 'none'
    END AS decided_by,
    CASE WHEN m.source_id IS NOT NULL OR p.is_master OR o.source_id IS NOT NULL THEN 1 ELSE 0 END AS candidates,
    m.valid_from, m.valid_to
  FROM products p
  LEFT JOIN (
    SELECT * FROM product_rows QUALIFY row_number() OVER (PARTITION BY source, source_id ORDER BY valid_to DESC) = 1
  ) m USING (source, source_id)
  LEFT JOIN (SELECT DISTINCT source_id FROM products WHERE is_master) o ON o.source_id = p.external_ref
)
SELECT * FROM decided UNION ALL SELECT * FROM decided_products
