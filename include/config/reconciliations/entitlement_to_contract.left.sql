-- Entitlements to support whose term covers the business date. What entitles to usage is compared with what is billed.
SELECT
  e.source_id AS entitlement_id, e.contract_line_ref, e.legal_entity_id, e.status, e.level, e.start_date,
  coalesce(k.name, 'an unknown customer') AS about
FROM entitlement AS e
LEFT JOIN customer AS k ON k.source = e.source AND k.source_id = e.customer_source_id
WHERE NOT EXISTS (
  FROM contract_line AS l JOIN product AS p ON p.source = l.source AND p.source_id = l.product_source_id
  WHERE l.source_id = e.contract_line_ref AND p.meter IS NOT NULL
) AND NOT e.is_deleted AND e.start_date <= $business_date AND coalesce(e.end_date, DATE '9999-12-31') > $business_date
