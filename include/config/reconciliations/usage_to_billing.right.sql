-- Usage lines of final invoices with the money they bill. Billing may take several lines for one usage: one per tier, one
-- per price where the price changes, one that corrects another, one that fills up to a minimum. Those of one invoice are
-- taken together. A line that bills another period or another customer than used the very quantity is put beside the
-- usage it should have billed, where there is only one such line and usage.
WITH used AS (
  SELECT u.subscription_source_id, u.meter, u.period_start, u.period_end, u.legal_entity_id, u.quantity, u.unit
  FROM usage_summary AS u
  WHERE u.grain = 'period' AND u.period_end <= $business_date AND u.quantity <> 0
), line AS (
  SELECT
    l.*, p.billing_scheme = 'tiered' AS is_tiered,
    min(l.source_id) OVER together AS first_id, count(*) OVER together AS lines, sum(l.quantity) OVER together AS whole
  FROM invoice_line AS l
  JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
  LEFT JOIN price AS p ON p.source = l.source AND p.source_id = l.price_source_id
  WHERE l.meter IS NOT NULL AND NOT l.is_deleted AND NOT i.is_deleted
    AND i.status <> 'draft' AND NOT (i.status = 'void' AND i.voided_date <= $business_date)
    AND i.accounting_date <= $business_date AND l.period_end <= $business_date
  WINDOW together AS (
    PARTITION BY l.source, l.invoice_source_id, l.subscription_source_id, l.meter, l.period_start, l.currency
  )
), unbilled AS (
  SELECT * FROM used ANTI JOIN line USING (subscription_source_id, meter, period_start)
), apart AS (
  -- what the other lines bill right without, and another unbilled usage has the very quantity of
  SELECT l.source, l.source_id
  FROM line AS l
  JOIN used AS u USING (subscription_source_id, meter, period_start)
  JOIN unbilled AS o
    ON o.meter = l.meter AND o.quantity = l.quantity AND o.legal_entity_id = l.legal_entity_id
    AND (o.subscription_source_id = l.subscription_source_id OR o.period_start = l.period_start)
  WHERE l.lines > 1 AND l.whole - l.quantity = u.quantity
  GROUP BY ALL
), minimum AS (
  SELECT DISTINCT subscription_source_id, meter, period_start, currency, amount FROM rated_lines WHERE charge = 'minimum'
), counting AS (
  -- one line of each minimum's very amount fills up to it, and counts nothing
  SELECT
    CASE WHEN a.source_id IS NULL THEN l.first_id ELSE l.source_id END AS line_id, l.*,
    CASE
      WHEN m.amount IS NOT NULL AND l.quantity <= 1 AND (l.lines > 1 OR u.quantity IS NULL) AND row_number() OVER (
        PARTITION BY l.source, l.invoice_source_id, l.subscription_source_id, l.meter, l.period_start, l.amount
        ORDER BY l.quantity > 1, l.line_no DESC, l.source_id DESC
      ) = 1 THEN 0
      ELSE l.quantity
    END AS counts
  FROM line AS l
  LEFT JOIN apart AS a ON a.source = l.source AND a.source_id = l.source_id
  LEFT JOIN used AS u
    ON u.subscription_source_id = l.subscription_source_id AND u.meter = l.meter AND u.period_start = l.period_start
  LEFT JOIN minimum AS m
    ON m.subscription_source_id = l.subscription_source_id AND m.meter = l.meter AND m.period_start = l.period_start
    AND m.currency = l.currency AND m.amount = l.amount
), billed AS (
  SELECT
    source, line_id, invoice_source_id, invoice_number, subscription_source_id, meter, period_start,
    max(period_end) AS period_end, min(legal_entity_id) AS legal_entity_id, currency,
    list_sort(list(DISTINCT price_source_id) FILTER (price_source_id IS NOT NULL)) AS prices,
    coalesce(bool_or(is_tiered), false) AS is_tiered, sum(counts) AS quantity, sum(amount) AS amount
  FROM counting GROUP BY ALL
), stray AS (
  -- bills what nobody used, or what another line bills right
  SELECT b.*
  FROM billed AS b
  LEFT JOIN used AS u USING (subscription_source_id, meter, period_start)
  WHERE u.quantity IS NULL OR (u.quantity <> b.quantity AND EXISTS (
    FROM billed AS o
    WHERE o.subscription_source_id = b.subscription_source_id AND o.meter = b.meter AND o.period_start = b.period_start
      AND o.quantity = u.quantity))
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
    subscription_source_id, meter, period_start, count(DISTINCT currency) > 1 AS is_mixed,
    min(currency) AS currency,
    CASE WHEN count(DISTINCT currency) = 1 THEN sum(amount) END AS amount,
    list_sort(list(DISTINCT price_source_id)) AS prices,
    CASE WHEN count(DISTINCT currency) = 1
      THEN string_agg(regexp_replace(arithmetic, ' = [^=]*$', ''), ' + ' ORDER BY line_no)
      ELSE string_agg(arithmetic, '; ' ORDER BY line_no) END AS terms
  FROM rated_lines GROUP BY ALL
), judged AS (
  SELECT
    l.*, r.amount AS due, r.terms, r.is_mixed, r.currency AS due_currency, u.unit,
    -- what is due without usage has no usage to be counted
    coalesce(u.quantity, CASE WHEN r.meter IS NOT NULL THEN 0 END) AS counted,
    CASE
      WHEN l.misplaced IS NOT NULL THEN l.misplaced
      WHEN counted IS NULL THEN 'billed not used'
      WHEN r.is_mixed THEN 'charged in two currencies'
      WHEN r.currency <> l.currency THEN 'wrong currency'
      WHEN counted <> l.quantity THEN 'wrong quantity'
      WHEN r.prices <> l.prices THEN 'wrong price version'
      WHEN l.is_tiered THEN 'wrong tier'
      ELSE 'wrong amount'
    END AS reason
  FROM placed AS l
  LEFT JOIN used AS u USING (subscription_source_id, meter, period_start)
  LEFT JOIN rated AS r USING (subscription_source_id, meter, period_start)
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
    WHEN l.is_mixed THEN l.terms || '; billed ' || money(l.amount, l.currency, d.digits)
    WHEN l.due_currency <> l.currency THEN
      l.terms || ' = ' || money(l.due, l.due_currency, o.digits) || '; billed ' || money(l.amount, l.currency, d.digits)
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
LEFT JOIN currency_digits AS o ON o.currency = l.due_currency
