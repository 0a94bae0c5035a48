-- Usage lines of final invoices with the money they bill. Billing may take several lines for one usage: one per tier, one
-- per price where the price changes, one that corrects another, one that fills up to a minimum. Those of one invoice are
-- taken together, and those of several where one takes back, or all of them bill no more than was used: only what is
-- beyond was billed more than once. What is taken back whole in one currency leaves what is billed in another. A line that bills another period or another customer than used the very quantity is put beside the
-- usage it should have billed, where there is only one such line and usage.
WITH used AS (
  SELECT u.subscription_source_id, u.meter, u.period_start, u.period_end, u.legal_entity_id, u.quantity, u.unit
  FROM usage_summary AS u
  WHERE u.grain = 'period' AND u.period_end <= $business_date AND u.quantity <> 0
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
), minimum AS (
  SELECT DISTINCT subscription_source_id, meter, period_start, currency, amount FROM rated_lines WHERE charge = 'minimum'
), final AS (
  SELECT
    l.*, p.billing_scheme = 'tiered' AS is_tiered, i.accounting_date AS billed_on,
    CASE WHEN m.amount IS NOT NULL AND l.quantity <= 1 THEN 0 ELSE l.quantity END AS used_up
  FROM invoice_line AS l
  JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
  LEFT JOIN price AS p ON p.source = l.source AND p.source_id = l.price_source_id
  LEFT JOIN minimum AS m
    ON m.subscription_source_id = l.subscription_source_id AND m.meter = l.meter AND m.period_start = l.period_start
    AND m.currency = l.currency AND m.amount = l.amount
  WHERE l.meter IS NOT NULL AND NOT l.is_deleted AND NOT i.is_deleted
    AND i.status <> 'draft' AND NOT (i.status = 'void' AND i.voided_date <= $business_date)
    AND i.accounting_date <= $business_date AND l.period_end <= $business_date
    AND (l.subscription_source_id, l.price_source_id) NOT IN (
      SELECT (subscription_source_id, price_source_id) FROM commitment_true_up WHERE price_source_id IS NOT NULL)
), due AS (
  SELECT subscription_source_id, meter, period_start, map_from_entries(list((currency, amount))) AS amounts
  FROM (SELECT subscription_source_id, meter, period_start, currency, sum(amount) AS amount FROM rated_lines GROUP BY ALL)
  GROUP BY ALL
), summed AS (
  SELECT
    f.*, sum(used_up) OVER of_invoice AS invoice_quantity, sum(amount) OVER of_invoice AS invoice_amount,
    sum(used_up) OVER of_currency AS currency_quantity, sum(amount) OVER of_currency AS currency_amount
  FROM final AS f
  WINDOW
    of_invoice AS (PARTITION BY source, subscription_source_id, meter, period_start, currency, invoice_source_id),
    of_currency AS (PARTITION BY source, subscription_source_id, meter, period_start, currency)
), standing AS (
  SELECT
    s.*, u.quantity AS used, r.is_mixed, r.currency AS due_currency, r.amount AS due,
    min(least(invoice_quantity, invoice_amount)) OVER of_currency < 0 AS takes_back,
    sum(used_up) OVER of_usage AS usage_quantity,
    count(DISTINCT CASE WHEN currency_quantity <> 0 OR currency_amount <> 0 THEN s.currency END) OVER of_usage AS currencies,
    min(CASE WHEN currency_quantity <> 0 OR currency_amount <> 0 THEN s.currency END) OVER of_usage AS stands_in,
    -- charged in two currencies: whether each is billed what is due in it
    bool_and(coalesce(d.amounts[s.currency], 0) = currency_amount) OVER of_usage
      AND count(DISTINCT s.currency) OVER of_usage >= cardinality(d.amounts) AS is_due,
    money(currency_amount, s.currency, g.digits) AS billed_amount
  FROM summed AS s
  LEFT JOIN used AS u USING (subscription_source_id, meter, period_start)
  LEFT JOIN rated AS r USING (subscription_source_id, meter, period_start)
  LEFT JOIN due AS d USING (subscription_source_id, meter, period_start)
  LEFT JOIN currency_digits AS g ON g.currency = s.currency
  WINDOW
    of_currency AS (PARTITION BY s.source, s.subscription_source_id, s.meter, s.period_start, s.currency),
    of_usage AS (PARTITION BY s.source, s.subscription_source_id, s.meter, s.period_start)
), line AS (
  SELECT
    *, min(source_id) OVER together AS first_id, count(*) OVER together AS lines, sum(quantity) OVER together AS whole,
    first_value(invoice_source_id) OVER in_order AS first_invoice, first_value(invoice_number) OVER in_order AS first_number,
    count(DISTINCT invoice_source_id) OVER together AS invoices
  FROM (
    SELECT
      * REPLACE (
        CASE WHEN is_mixed AND currencies > 1 THEN due_currency
          WHEN currency_quantity = 0 AND currency_amount = 0 AND currencies = 1 THEN stands_in
          ELSE currency END AS currency,
        -- no one amount in two currencies
        CASE WHEN NOT (is_mixed AND currencies > 1) OR (currency = due_currency AND NOT is_due) THEN amount END AS amount
      ),
      CASE
        WHEN is_mixed AND currencies > 1 AND usage_quantity <= coalesce(used, 0) THEN ''
        WHEN currency_quantity = 0 AND currency_amount = 0 THEN ''
        WHEN takes_back OR currency_quantity <= used OR (used IS NULL AND currency_amount = due) THEN ''
        ELSE invoice_source_id
      END AS bill
    FROM standing
  )
  WINDOW
    together AS (PARTITION BY source, bill, subscription_source_id, meter, period_start, currency),
    in_order AS (
      PARTITION BY source, bill, subscription_source_id, meter, period_start, currency
      ORDER BY billed_on, invoice_source_id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
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
), counting AS (
  -- one line of each minimum's very amount fills up to it, and counts nothing
  SELECT
    CASE WHEN a.source_id IS NULL THEN l.first_id ELSE l.source_id END AS line_id, l.*,
    CASE
      WHEN m.amount IS NOT NULL AND l.quantity <= 1 AND (l.lines > 1 OR u.quantity IS NULL) AND row_number() OVER (
        PARTITION BY l.source, l.bill, l.subscription_source_id, l.meter, l.period_start, l.amount
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
    source, line_id, first_invoice AS invoice_source_id, first_number AS invoice_number, invoices, subscription_source_id,
    meter, period_start, max(period_end) AS period_end, min(legal_entity_id) AS legal_entity_id, currency,
    list_sort(list(DISTINCT price_source_id) FILTER (price_source_id IS NOT NULL)) AS prices,
    coalesce(bool_or(is_tiered), false) AS is_tiered, sum(counts) AS quantity, sum(amount) AS amount,
    string_agg(DISTINCT billed_amount, ' and ' ORDER BY billed_amount) AS billed_amounts
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
), committed AS (
  -- lines under a commitment's price: what the term that had ended by then was short of, corrections taken together
  SELECT
    min(source_id) AS line_id, min(invoice_number) AS invoice_number, count(DISTINCT invoice_source_id) AS invoices,
    commitment_id, subscription_source_id, currency, sum(amount) AS amount, any_value(legal_entity_id) AS legal_entity_id,
    any_value(billed_customer) AS customer_source_id, any_value(source) AS source
  FROM (
    SELECT l.*, i.customer_source_id AS billed_customer, t.commitment_id
    FROM invoice_line AS l
    JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
    JOIN commitment_true_up AS t
      ON t.subscription_source_id = l.subscription_source_id AND t.price_source_id = l.price_source_id
      AND t.term_end <= i.accounting_date + 1
    WHERE NOT l.is_deleted AND NOT i.is_deleted AND i.status <> 'draft'
      AND NOT (i.status = 'void' AND i.voided_date <= $business_date) AND i.accounting_date <= $business_date
    QUALIFY row_number() OVER (
      PARTITION BY l.source, l.source_id ORDER BY t.term_end DESC, t.commitment_id
    ) = 1
  )
  GROUP BY commitment_id, subscription_source_id, currency
), shown AS (
  SELECT
    l.line_id, l.invoice_number, l.subscription_source_id, l.meter, l.period_start, l.period_end,
    l.legal_entity_id, l.quantity,
    CASE WHEN l.quantity < 0 THEN '-' ELSE '' END || grouped(split_part(plain(abs(l.quantity)), '.', 1))
      || CASE WHEN l.quantity = trunc(l.quantity) THEN '' ELSE '.' || split_part(plain(abs(l.quantity)), '.', 2) END AS shown_quantity,
    replace(l.meter, '_', ' ') || ' by ' || coalesce(k.name, 'an unknown customer') || ' from ' || l.billed_from
      || ' to ' || (l.period_end - 1) || coalesce(' (invoice ' || l.invoice_number
      || CASE WHEN l.invoices > 1 THEN ' and ' || (l.invoices - 1) || ' more' ELSE '' END || ')', '') AS about,
    l.currency,
    -- what no price says the worth of is compared by its quantity alone
    CASE WHEN x.meter IS NULL THEN l.amount END::DECIMAL(38, 6) AS amount,
    CAST(l.billed_from AS VARCHAR) AS period, l.billed_subscription AS customer, l.reason,
    CASE
      WHEN l.counted IS NULL THEN 'nothing was counted; billed ' || money(l.amount, l.currency, d.digits)
      WHEN l.is_mixed THEN l.terms || '; billed ' || l.billed_amounts
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
)
SELECT * FROM shown
UNION ALL BY NAME
SELECT
  c.line_id, c.invoice_number, c.subscription_source_id, 'commitment ' || c.commitment_id AS meter,
  t.term_start AS period_start, t.term_end AS period_end, c.legal_entity_id, 0 AS quantity, '0' AS shown_quantity,
  'commitment ' || c.commitment_id || ' by ' || coalesce(k.name, 'an unknown customer') || ' from ' || t.term_start || ' to '
    || (t.term_end - 1) || coalesce(' (invoice ' || c.invoice_number
    || CASE WHEN c.invoices > 1 THEN ' and ' || (c.invoices - 1) || ' more' ELSE '' END || ')', '') AS about,
  c.currency, c.amount::DECIMAL(38, 6) AS amount, CAST(t.term_start AS VARCHAR) AS period,
  c.subscription_source_id AS customer, 'wrong commitment' AS reason,
  money(t.committed, t.currency, d.digits) || ' committed − ' || money(t.charged, t.currency, d.digits) || ' charged = '
    || money(t.amount, t.currency, d.digits) || '; billed ' || money(c.amount, c.currency, o.digits)
    || CASE WHEN c.currency <> t.currency OR c.amount = t.amount THEN ''
      WHEN t.amount > c.amount THEN '; short ' || money(t.amount - c.amount, c.currency, d.digits)
      ELSE '; over ' || money(c.amount - t.amount, c.currency, d.digits) END AS working
FROM committed AS c
JOIN commitment_true_up AS t USING (commitment_id)
LEFT JOIN customer AS k ON k.source = c.source AND k.source_id = c.customer_source_id
LEFT JOIN currency_digits AS d ON d.currency = t.currency
LEFT JOIN currency_digits AS o ON o.currency = c.currency
