-- Usage lines of final invoices, their quantity at the subscription's price as on the other side. Billing makes a line
-- per tier of a tiered price: those of one invoice are taken together, as what they bill is one usage.
WITH line AS (
  SELECT
    CASE WHEN p.billing_scheme = 'tiered' THEN min(l.source_id) OVER tiers ELSE l.source_id END AS line_id,
    l.*
  FROM invoice_line AS l
  LEFT JOIN price AS p ON p.source = l.source AND p.source_id = l.price_source_id
  WHERE l.meter IS NOT NULL AND NOT l.is_deleted
  WINDOW tiers AS (
    PARTITION BY l.source, l.invoice_source_id, l.subscription_source_id, l.meter, l.period_start, l.price_source_id
  )
), billed AS (
  SELECT
    source, line_id, invoice_source_id, invoice_number, subscription_source_id, meter, period_start, period_end,
    legal_entity_id, sum(quantity) AS quantity
  FROM line GROUP BY ALL
), priced AS (
  SELECT subscription_source_id, meter, min(unit_amount) AS unit_amount, min(currency) AS currency
  FROM subscription_item WHERE meter IS NOT NULL AND NOT is_deleted
  GROUP BY ALL HAVING count(DISTINCT unit_amount) = 1 AND count(unit_amount) = count(*) AND count(DISTINCT currency) = 1
)
SELECT
  l.line_id, l.invoice_number, l.subscription_source_id, l.meter, l.period_start, l.period_end,
  l.legal_entity_id, l.quantity,
  replace(l.meter, '_', ' ') || ' by ' || coalesce(k.name, 'an unknown customer') || ' from ' || l.period_start
    || ' to ' || (l.period_end - 1) || coalesce(' (invoice ' || l.invoice_number || ')', '') AS about,
  p.currency,
  (TRY_CAST(l.quantity AS DECIMAL(20,9)) * TRY_CAST(p.unit_amount AS DECIMAL(18,12)))::DECIMAL(38,6) AS amount
FROM billed AS l
JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
LEFT JOIN priced AS p ON p.subscription_source_id = l.subscription_source_id AND p.meter = l.meter
LEFT JOIN customer AS k ON k.source = i.source AND k.source_id = i.customer_source_id
WHERE NOT i.is_deleted
  AND i.status <> 'draft' AND NOT (i.status = 'void' AND i.voided_date <= $business_date)
  AND i.accounting_date <= $business_date
  AND l.period_end <= $business_date
