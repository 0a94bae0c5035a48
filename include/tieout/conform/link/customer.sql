-- A customer's canonical id and its parent's; undecided customers keep the id of their own system.
SELECT m.* REPLACE (
  coalesce(x.canonical_id, m.source || ':' || m.source_id) AS id,
  coalesce(x.decided_by, 'none') AS decided_by,
  CASE WHEN m.parent_source_id IS NOT NULL
    THEN coalesce(p.canonical_id, m.source || ':' || m.parent_source_id) END AS parent_id
)
FROM merged_customer m
LEFT JOIN customer_of x ON x.source = m.source AND x.source_id = m.source_id
LEFT JOIN customer_of p ON p.source = m.source AND p.source_id = m.parent_source_id
