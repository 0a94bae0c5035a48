-- Subscription items that bill on the business date; a cancelled one stands for its contract line only where no other item does.
SELECT
  i.source_id AS item_id,
  i.crm_line_id,
  i.legal_entity_id,
  i.customer_id,
  coalesce(k.name, 'an unknown customer') || coalesce(' (' || p.name || ')', '') AS about,
  i.product_id,
  CASE WHEN i.product_id IS NULL THEN 'product ' || coalesce(i.product_source_id, '(none)')
    || coalesce(' (' || p.name || ')', '') || ' is not mapped' END AS product_gap,
  CASE WHEN i.product_id IS NULL THEN 'product ' || i.product_source_id END AS cause,
  CASE WHEN i.customer_id IS NULL THEN 'billing customer ' || coalesce(i.customer_source_id, '(none)') || ' has no account in the CRM' END AS customer_gap,
  i.currency,
  i.quantity::DECIMAL(28,9) AS quantity,
  i.monthly_amount,
  i.start_date,
  i.status
FROM subscription_item AS i
LEFT JOIN customer AS k ON k.source = i.source AND k.source_id = i.customer_source_id
LEFT JOIN product AS p ON p.source = i.source AND p.source_id = i.product_source_id
WHERE NOT i.is_deleted AND i.start_date <= $business_date
  AND i.status IN ('active', 'past_due', 'trialing', 'canceled')
QUALIFY i.status <> 'canceled' OR (
  max(i.status <> 'canceled') OVER (PARTITION BY i.legal_entity_id, i.crm_line_id) = false
  AND row_number() OVER (PARTITION BY i.legal_entity_id, i.crm_line_id ORDER BY i.ended_date DESC, i.source_id) = 1
)
