-- Usage of billing periods that have ended, free of duplicates, corrections applied, at what the price book says.
WITH rated AS (
  SELECT
    subscription_source_id, meter, period_start, min(currency) AS currency, count(DISTINCT currency) > 1 AS is_mixed,
    -- no one amount where the price changes its currency within the period
    CASE WHEN count(DISTINCT currency) = 1 THEN sum(amount) END AS amount,
    CASE WHEN count(DISTINCT currency) = 1
      THEN string_agg(regexp_replace(arithmetic, ' = [^=]*$', ''), ' + ' ORDER BY line_no)
      ELSE string_agg(arithmetic, '; ' ORDER BY line_no) END AS terms
  FROM rated_lines GROUP BY ALL
), billed AS (
  SELECT subscription_source_id, meter, period_start, min(currency) AS currency
  FROM invoice_line WHERE meter IS NOT NULL AND NOT is_deleted GROUP BY ALL
), granted AS (
  -- a meter that an entitlement gives away although its contract line sells it
  SELECT DISTINCT e.customer_id, p.meter, e.start_date, e.end_date
  FROM entitlement AS e
  JOIN contract_line AS l ON l.source_id = e.contract_line_ref AND NOT l.is_deleted
  JOIN product AS p ON p.id = l.product_id AND p.meter IS NOT NULL AND NOT p.is_deleted
  WHERE e.status = 'Active' AND NOT e.is_deleted
), counted AS (
  SELECT subscription_source_id, meter, period_start, period_end, legal_entity_id, customer_id, quantity, unit
  FROM usage_summary WHERE grain = 'period'
  UNION ALL
  -- nothing was used, and the price charges all the same
  SELECT DISTINCT r.subscription_source_id, r.meter, r.period_start, r.period_end, s.legal_entity_id, s.customer_id, 0, NULL
  FROM rated_lines AS r
  JOIN subscription AS s ON s.source_id = r.subscription_source_id
  WHERE NOT EXISTS (
    FROM usage_summary AS u
    WHERE u.grain = 'period' AND u.subscription_source_id = r.subscription_source_id AND u.meter = r.meter
      AND u.period_start = r.period_start)
), usage AS (
  SELECT
    u.subscription_source_id, u.meter, u.period_start, u.period_end, u.legal_entity_id, u.quantity, u.unit,
    u.customer_id,
    replace(u.meter, '_', ' ') || ' by ' || coalesce(k.name, 'an unknown customer') || ' from ' || u.period_start
      || ' to ' || (u.period_end - 1) AS about,
    coalesce(r.currency, b.currency, s.currency) AS currency,
    CASE WHEN r.amount IS NOT NULL THEN r.amount
      -- nothing charged: priced, at nothing
      WHEN r.meter IS NULL AND x.subscription_source_id IS NULL THEN 0 END::DECIMAL(38, 6) AS amount,
    r.terms, coalesce(r.is_mixed, false) AS is_mixed
  FROM counted AS u
  LEFT JOIN rated AS r
    ON r.subscription_source_id = u.subscription_source_id AND r.meter = u.meter AND r.period_start = u.period_start
  LEFT JOIN unrated_usage AS x
    ON x.subscription_source_id = u.subscription_source_id AND x.meter = u.meter AND x.period_start = u.period_start
  LEFT JOIN billed AS b
    ON b.subscription_source_id = u.subscription_source_id AND b.meter = u.meter AND b.period_start = u.period_start
  LEFT JOIN subscription AS s ON s.source_id = u.subscription_source_id
  LEFT JOIN customer AS k ON k.source = s.source AND k.source_id = s.customer_source_id
  WHERE u.period_end <= $business_date
), shown AS (
  SELECT
    u.* EXCLUDE (terms, customer_id, is_mixed),
    CASE WHEN u.quantity < 0 THEN '-' ELSE '' END || grouped(split_part(plain(abs(u.quantity)), '.', 1))
      || CASE WHEN u.quantity = trunc(u.quantity) THEN '' ELSE '.' || split_part(plain(abs(u.quantity)), '.', 2) END AS shown_quantity,
    CAST(u.period_start AS VARCHAR) AS period, u.subscription_source_id AS customer,
    CASE WHEN u.is_mixed THEN 'charged in two currencies' WHEN g.meter IS NOT NULL THEN 'free by entitlement'
      WHEN u.quantity = 0 THEN 'due without usage'
      ELSE 'used not billed' END AS reason,
    replace(u.terms, ' used − ', ' ' || coalesce(u.unit, 'unit') || 's − ')
      || CASE WHEN u.is_mixed THEN '; billed nothing' ELSE ' = ' || money(u.amount, u.currency, d.digits)
        || '; billed nothing; short ' || money(u.amount, u.currency, d.digits) END AS working
  FROM usage AS u
  LEFT JOIN currency_digits AS d ON d.currency = u.currency
  LEFT JOIN granted AS g
    ON g.customer_id = u.customer_id AND g.meter = u.meter AND g.start_date < u.period_end
    AND coalesce(g.end_date, DATE '9999-12-31') >= u.period_end
)
SELECT * FROM shown
UNION ALL BY NAME
-- what usage falls short of a commitment is due at the end of its term
SELECT
  t.subscription_source_id, 'commitment ' || t.commitment_id AS meter, t.term_start AS period_start,
  t.term_end AS period_end, s.legal_entity_id, 0 AS quantity, '0' AS shown_quantity,
  'commitment ' || t.commitment_id || ' by ' || coalesce(k.name, 'an unknown customer') || ' from ' || t.term_start || ' to '
    || (t.term_end - 1) AS about,
  t.currency, t.amount::DECIMAL(38, 6) AS amount, CAST(t.term_start AS VARCHAR) AS period,
  t.subscription_source_id AS customer, 'commitment not billed' AS reason,
  money(t.committed, t.currency, d.digits) || ' committed − ' || money(t.charged, t.currency, d.digits) || ' charged = '
    || money(t.amount, t.currency, d.digits) || '; billed nothing; short ' || money(t.amount, t.currency, d.digits) AS working
FROM commitment_true_up AS t
LEFT JOIN subscription AS s ON s.source_id = t.subscription_source_id
LEFT JOIN customer AS k ON k.source = s.source AND k.source_id = s.customer_source_id
LEFT JOIN currency_digits AS d ON d.currency = t.currency
WHERE t.price_source_id IS NOT NULL AND t.term_end <= $business_date
