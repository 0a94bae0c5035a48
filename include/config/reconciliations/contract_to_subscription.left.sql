-- Contract lines in force on the business date, the changes of amendments added to the line they change.
SELECT
  l.root_line_id,
  l.legal_entity_id,
  min(l.customer_id) AS customer_id,
  coalesce(min(k.name), 'an unknown customer') || ' (contract ' || coalesce(min(c.number), min(c.source_id))
    || coalesce(', ' || min(p.name), '') || ')' AS about,
  min(l.product_id) AS product_id,
  CASE WHEN bool_or(l.product_id IS NULL) THEN 'product ' || coalesce(min(l.product_source_id), '(none)')
    || coalesce(' (' || min(p.name) || ')', '') || ' is not mapped' END AS product_gap,
  CASE WHEN bool_or(l.product_id IS NULL) THEN 'product ' || min(l.product_source_id) END AS cause,
  min(l.currency) AS currency,
  sum(l.quantity) AS quantity,
  sum(l.monthly_amount) AS monthly_amount,
  min(l.start_date) AS start_date,
  bool_or(coalesce(l.is_trial, false)) AS is_trial,
  'active' AS status
FROM contract_line AS l
JOIN contract AS c ON c.source = l.source AND c.source_id = l.contract_source_id
LEFT JOIN customer AS k ON k.source = l.source AND k.source_id = l.customer_source_id
LEFT JOIN product AS p ON p.source = l.source AND p.source_id = l.product_source_id
WHERE NOT l.is_deleted AND NOT c.is_deleted AND c.status = 'Activated'
  AND l.start_date <= $business_date
  AND coalesce(l.end_date, DATE '9999-12-31') > $business_date
  AND coalesce(l.terminated_date, DATE '9999-12-31') > $business_date
GROUP BY l.root_line_id, l.legal_entity_id
