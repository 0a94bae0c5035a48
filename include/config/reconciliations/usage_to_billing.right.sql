-- Usage lines of final invoices with the money they bill. Billing makes a line per tier of a tiered price: those of one
-- invoice are taken together, as what they bill is one usage. A line that bills another period or another customer than
-- used the very quantity is put beside the usage it should have billed, where there is only one such line and usage.
WITH line AS (
  SELECT
    CASE WHEN p.billing_scheme = 'tiered' THEN min(l.source_id) OVER tiers ELSE l.source_id END AS line_id,
    l.*
  FROM invoice_line AS l
  JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
  LEFT JOIN price AS p ON p.source = l.source AND p.source_id = l.price_source_id
  WHERE l.meter IS NOT NULL AND NOT l.is_deleted AND NOT i.is_deleted
    AND i.status <> 'draft' AND NOT (i.status = 'void' AND i.voided_date <= $business_date)
    AND i.accounting_date <= $business_date AND l.period_end <= $business_date
  WINDOW tiers AS (
    PARTITION BY l.source, l.invoice_source_id, l.subscription_source_id, l.meter, l.period_start, l.price_source_id
  )
), billed AS (
  SELECT
    source, line_id, invoice_source_id, invoice_number, subscription_source_id, meter, period_start, period_end,
    legal_entity_id, price_source_id, min(currency) AS currency, sum(quantity) AS quantity, sum(amount) AS amount
  FROM line GROUP BY ALL
), used AS (
  SELECT u.subscription_source_id, u.meter, u.period_start, u.period_end, u.legal_entity_id, u.quantity, u.unit
  FROM usage_summary AS u
  WHERE u.grain = 'period' AND u.period_end <= $business_date AND u.quantity <> 0
), stray AS (
  -- bills what nobody used, or what another line bills right
  SELECT b.*
  FROM billed AS b
  LEFT JOIN used AS u USING (subscription_source_id, meter, period_start)
  WHERE u.quantity IS NULL OR (u.quantity <> b.quantity AND EXISTS (
    FROM billed AS o
    WHERE o.subscription_source_id = b.subscription_source_id AND o.meter = b.meter AND o.period_start = b.period_start
      AND o.quantity = u.quantity))
), unbilled AS (
  SELECT * FROM used ANTI JOIN billed USING (subscription_source_id, meter, period_start)
), claim AS (
  SELECT *
  FROM (
    SELECT s.source, s.line_id, u.*, 'wrong period' AS reason
    FROM stray AS s JOIN unbilled AS u USING (subscription_source_id, meter, quantity, legal_entity_id)
    UNION ALL BY NAME
    SELECT s.source, s.line_id, u.*, 'wrong customer' AS reason
    FROM stray AS s JOIN unbilled AS u USING (meter, period_start, period_end, quantity, legal_entity_id)
  )
  QUALIFY count(*) OVER (PARTITION BY source, line_id) = 1
    AND count(*) OVER (PARTITION BY subscription_source_id, meter, period_start) = 1
), placed AS (
  SELECT
    b.* EXCLUDE (subscription_source_id, period_start),
    b.subscription_source_id AS billed_subscription, b.period_start AS billed_from,
    coalesce(c.subscription_source_id, b.subscription_source_id) AS subscription_source_id,
    coalesce(c.period_start, b.period_start) AS period_start,
    c.reason AS misplaced
  FROM billed AS b LEFT JOIN claim AS c USING (source, line_id)
), rated AS (
  SELECT
    subscription_source_id, meter, period_start, sum(amount) AS amount, min(price_source_id) AS price_source_id,
    max(tier_no) AS tiers, string_agg(regexp_replace(arithmetic, ' = [^=]*$', ''), ' + ' ORDER BY line_no) AS terms
  FROM rated_lines GROUP BY ALL
), judged AS (
  SELECT
    l.*, r.amount AS due, r.terms, u.unit,
    -- what is due without usage has no usage to be counted
    coalesce(u.quantity, CASE WHEN r.amount IS NOT NULL THEN 0 END) AS counted,
    CASE
      WHEN l.misplaced IS NOT NULL THEN l.misplaced
      WHEN counted IS NULL THEN 'billed not used'
      WHEN counted <> l.quantity THEN 'wrong quantity'
      WHEN r.price_source_id <> l.price_source_id THEN 'wrong price version'
      WHEN p.billing_scheme = 'tiered' THEN 'wrong tier'
      ELSE 'wrong amount'
    END AS reason
  FROM placed AS l
  LEFT JOIN used AS u USING (subscription_source_id, meter, period_start)
  LEFT JOIN rated AS r USING (subscription_source_id, meter, period_start)
  LEFT JOIN price AS p ON p.source = l.source AND p.source_id = l.price_source_id
)
SELECT
  l.line_id, l.invoice_number, l.subscription_source_id, l.meter, l.period_start, l.period_end,
  l.legal_entity_id, l.quantity,
  replace(l.meter, '_', ' ') || ' by ' || coalesce(k.name, 'an unknown customer') || ' from ' || l.billed_from
    || ' to ' || (l.period_end - 1) || coalesce(' (invoice ' || l.invoice_number || ')', '') AS about,
  l.currency,
  -- what no price says the worth of is compared by its quantity alone
  CASE WHEN x.meter IS NULL THEN l.amount END::DECIMAL(38, 6) AS amount,
  CAST(l.billed_from AS VARCHAR) AS period, l.billed_subscription AS customer, l.reason,
  CASE
    WHEN l.counted IS NULL THEN 'nothing was counted; billed ' || money(l.amount, l.currency, d.digits)
    WHEN l.due IS NOT NULL THEN
      replace(l.terms, ' used − ', ' ' || coalesce(l.unit, 'unit') || 's − ') || ' = '
      || money(l.due, l.currency, d.digits)
      || '; billed ' || CASE WHEN l.quantity <> l.counted THEN CASE WHEN l.quantity = trunc(l.quantity) THEN grouped(plain(l.quantity)) ELSE plain(l.quantity) END || ' for ' ELSE '' END
      || money(l.amount, l.currency, d.digits)
      || CASE WHEN l.due > l.amount THEN '; short ' || money(l.due - l.amount, l.currency, d.digits)
        WHEN l.due < l.amount THEN '; over ' || money(l.amount - l.due, l.currency, d.digits) ELSE '' END
  END AS working
FROM judged AS l
JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
LEFT JOIN unrated_usage AS x
  ON x.subscription_source_id = l.subscription_source_id AND x.meter = l.meter AND x.period_start = l.period_start
LEFT JOIN customer AS k ON k.source = i.source AND k.source_id = i.customer_source_id
LEFT JOIN currency_digits AS d ON d.currency = l.currency
