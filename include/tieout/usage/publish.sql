-- When each period was first billed, and for how much: what came on that day or later may be in no invoice of it.
CREATE OR REPLACE TEMP TABLE billed AS
SELECT l.subscription_source_id, l.meter, l.period_start, min(i.accounting_date) AS billed_on,
  sum(l.quantity) AS billed_quantity
FROM invoice_line AS l
JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
WHERE l.meter IS NOT NULL AND NOT l.is_deleted AND NOT i.is_deleted AND i.status NOT IN ('draft', 'void')
  AND l.subscription_source_id IS NOT NULL AND l.period_start IS NOT NULL AND i.accounting_date IS NOT NULL
GROUP BY l.subscription_source_id, l.meter, l.period_start
