-- Product and family of each source's product, by day: its own rows of the mapping, else those of the CRM product it
-- carries the id of. A product without a row has no family: nothing that sells it can be posted.
WITH inherited AS (
  SELECT x.source, x.source_id, x.canonical_id, r.family, r.valid_from, r.valid_to
  FROM crosswalk x
  JOIN product_rows r ON $prefix || r.source_id = x.canonical_id AND r.source IN (SELECT source FROM master_sources)
  WHERE x.entity = 'product' AND x.decided_by = 'shared_id'
)
SELECT source, source_id, canonical_id, family, valid_from, valid_to FROM product_rows
UNION ALL
SELECT source, source_id, canonical_id, family, valid_from, valid_to FROM inherited
