-- Entitlements whose term covers the business date.
SELECT
  e.source_id AS entitlement_id, e.contract_line_ref, e.legal_entity_id, e.status, e.level, e.start_date,
  coalesce(k.name, 'an unknown customer') AS about
FROM entitlement AS e
LEFT JOIN customer AS k ON k.source = e.source AND k.source_id = e.customer_source_id
WHERE NOT e.is_deleted AND e.start_date <= $business_date AND coalesce(e.end_date, DATE '9999-12-31') > $business_date
