-- Delivered but not invoiced at the end of the period of run.until: usage, and fixed fees billed late. Cumulative:
-- whatever is still not invoiced counts again each period, because the reversal on day 1 took it out.
CREATE OR REPLACE TEMP TABLE accrual_event AS
WITH span AS (
  SELECT f.name, f.start_date, f.end_date, run.*
  FROM fiscal_period AS f, run WHERE run.until BETWEEN f.start_date AND f.end_date
), item AS (
  SELECT si.*, q.quantum
  FROM subscription_item AS si
  JOIN run ON si.legal_entity_id = run.entity
  LEFT JOIN minor_unit AS q ON q.currency = si.currency
  WHERE NOT si.is_deleted
), usage_period AS (
  SELECT DISTINCT u.subscription_source_id, u.meter, u.period_start, u.period_end
  FROM usage_summary AS u, span
  WHERE u.grain = 'period' AND u.legal_entity_id = span.entity AND u.period_start <= span.end_date
), uninvoiced AS (
  SELECT p.*
  FROM usage_period AS p, span
  WHERE NOT EXISTS (
    SELECT 1 FROM ledger_line AS l
    WHERE l.subscription_source_id = p.subscription_source_id AND l.meter = p.meter AND NOT l.is_prepaid
      AND l.period_start = p.period_start AND l.invoice_date <= span.end_date
  )
), not_prepaid AS (
  SELECT u.* REPLACE (CAST(u.quantity - coalesce(w.taken, 0) AS DECIMAL(28, 9)) AS quantity)
  FROM usage_summary AS u
  LEFT JOIN (SELECT subscription_source_id, meter, day, sum(taken) AS taken FROM drawn GROUP BY ALL) AS w
    ON w.subscription_source_id = u.subscription_source_id AND w.meter = u.meter AND w.day = u.period_start
  WHERE u.grain = 'day'
), metered AS (
  -- items as they are, and those that are gone since, which the last change of their subscription tells of
  SELECT source, source_id, subscription_source_id, meter, price_source_id, unit_amount, quantum, currency,
    product_family, product_source_id, customer_id, raw_ref, accounting_date AS made_on, CAST(NULL AS DATE) AS gone_on
  FROM item
  WHERE meter IS NOT NULL
  UNION ALL
  SELECT f.source, f.subscription_item_source_id, f.subscription_source_id, f.meter, f.price_source_id, f.unit_amount,
    q.quantum, f.currency, f.product_family, f.product_source_id, NULL, f.raw_ref, f.start_date, f.accounting_date
  FROM former_price AS f
  JOIN run ON f.legal_entity_id = run.entity
  LEFT JOIN minor_unit AS q ON q.currency = f.currency
  WHERE f.meter IS NOT NULL AND NOT f.is_deleted
    AND NOT EXISTS (
      SELECT 1 FROM subscription_item AS i
      WHERE i.source = f.source AND i.source_id = f.subscription_item_source_id AND i.meter = f.meter AND NOT i.is_deleted
    )
  QUALIFY row_number() OVER (
    PARTITION BY f.source, f.subscription_item_source_id, f.meter ORDER BY f.occurred_at DESC, f.source_id DESC
  ) = 1
), charged AS (
  -- what an uninvoiced period is charged by: the items there were on its last day; where there was none any more, the one
  -- that went last, for the usage until then
  SELECT u.*, m.* EXCLUDE (subscription_source_id, meter, made_on), least(u.period_end - 1, span.end_date) AS last_day
  FROM uninvoiced AS u
  CROSS JOIN span
  JOIN metered AS m ON m.subscription_source_id = u.subscription_source_id AND m.meter = u.meter
  QUALIFY rank() OVER (
    PARTITION BY u.subscription_source_id, u.meter, u.period_start
    ORDER BY
      CASE
        WHEN m.gone_on IS NULL AND coalesce(m.made_on <= last_day, true) THEN 1
        WHEN m.gone_on > last_day THEN 2
        WHEN m.gone_on IS NOT NULL THEN 3
        ELSE 4
      END,
      CASE WHEN m.gone_on > last_day THEN m.gone_on END, m.gone_on DESC,
      CASE WHEN m.gone_on IS NOT NULL THEN m.source_id END
  ) = 1
), used AS (
  SELECT
    p.subscription_source_id, p.meter, p.period_start, d.period_start AS day, d.quantity, d.correlation_id,
    sum(d.quantity) OVER (
      PARTITION BY p.subscription_source_id, p.meter, p.period_start ORDER BY d.period_start
    ) AS so_far,
    d.period_start = max(d.period_start) OVER (
      PARTITION BY p.subscription_source_id, p.meter, p.period_start
    ) AS is_last
  FROM (SELECT DISTINCT subscription_source_id, meter, period_start, last_day, gone_on FROM charged) AS p
  JOIN not_prepaid AS d
    ON d.subscription_source_id = p.subscription_source_id AND d.meter = p.meter
    AND d.period_start >= p.period_start AND d.period_start <= least(p.last_day, p.gone_on)
), held AS (
  -- the price in force on the last day of what is accrued, whatever it was changed to since
  SELECT
    i.source, i.source_id, i.quantum, i.subscription_source_id, i.meter, i.period_start, i.currency, i.product_family,
    i.product_source_id, i.customer_id, i.raw_ref,
    coalesce(
      arg_min({'id': f.price_source_id, 'each': f.unit_amount}, f.occurred_at),
      {'id': any_value(i.price_source_id), 'each': any_value(i.unit_amount)}
    ) AS price
  FROM charged AS i
  LEFT JOIN former_price AS f
    ON f.source = i.source AND f.subscription_item_source_id = i.source_id AND f.meter = i.meter AND NOT f.is_deleted
    AND f.accounting_date > i.last_day
  GROUP BY ALL
), asked AS (
  SELECT DISTINCT source, source_id, quantum, price FROM held
), tier AS (
  -- what a unit costs, and from which on; a price without tiers is a single one without end
  SELECT i.source, i.source_id, i.price, i.quantum, 'graduated' AS mode, 0 AS below, NULL AS up_to,
    i.price.each AS unit_amount, 0 AS flat_amount, p.package_size, p.package_round
  FROM asked AS i LEFT JOIN price AS p ON p.source = i.source AND p.source_id = i.price.id
  WHERE i.price.each IS NOT NULL
  UNION ALL
  SELECT i.source, i.source_id, i.price, i.quantum, p.tiers_mode,
    coalesce(lag(t.up_to) OVER (PARTITION BY i.source, i.source_id, i.price ORDER BY t.tier_no), 0),
    t.up_to, coalesce(t.unit_amount, 0), coalesce(t.flat_amount, 0), NULL, NULL
  FROM asked AS i
  JOIN price AS p ON p.source = i.source AND p.source_id = i.price.id
  JOIN price_tier AS t ON t.source = p.source AND t.price_source_id = p.source_id AND NOT t.is_deleted
  WHERE i.price.each IS NULL
), priced AS (
  SELECT
    u.*, i.* EXCLUDE (subscription_source_id, meter, period_start, quantum),
    (i.source, i.source_id, i.price) IN (SELECT (source, source_id, price) FROM tier) AS is_priced
  FROM used AS u
  JOIN held AS i USING (subscription_source_id, meter, period_start)
), reached AS (
  SELECT source, source_id, price, so_far AS quantity FROM priced
  UNION
  SELECT source, source_id, price, so_far - quantity FROM priced
), worth AS (
  -- as billing makes lines of it: graduated tiers each their own units, volume prices all units at the tier they reach
  SELECT r.source, r.source_id, r.price, r.quantity,
    CAST(sum(
      rated(
        packages(
          CASE t.mode WHEN 'graduated' THEN least(r.quantity, coalesce(t.up_to, r.quantity)) - t.below
            ELSE r.quantity END,
          t.package_size, t.package_round
        ),
        t.unit_amount, t.quantum
      ) + rated(1, t.flat_amount, t.quantum)
    ) AS DECIMAL(18, 4)) AS amount
  FROM reached AS r
  JOIN tier AS t USING (source, source_id, price)
  WHERE r.quantity > t.below AND (t.mode = 'graduated' OR t.up_to IS NULL OR r.quantity <= t.up_to)
  GROUP BY ALL
), usage_row AS (
  -- a row per day of usage: what the period is worth by its end, rounded, less what it was worth before, so the days
  -- add up to the rounded whole; what must wait waits as one row
  SELECT
    'usage:' || u.source || ':' || u.source_id || ':' || u.period_start AS document,
    ':' || u.day AS part,
    'usage_summary' AS source, u.subscription_source_id || '/' || u.meter || '/' || u.day AS source_id,
    u.currency, u.product_family, u.product_source_id, u.customer_id,
    CASE WHEN u.is_priced THEN coalesce(now.amount, 0)
      - CASE WHEN u.product_family IS NULL THEN 0 ELSE coalesce(before.amount, 0) END END AS amount,
    CASE WHEN NOT u.is_priced THEN 'the metered price has neither a unit amount nor tiers' END AS fault,
    u.correlation_id, u.raw_ref
  FROM priced AS u
  LEFT JOIN worth AS now
    ON now.source = u.source AND now.source_id = u.source_id AND now.price = u.price AND now.quantity = u.so_far
  LEFT JOIN worth AS before
    ON before.source = u.source AND before.source_id = u.source_id AND before.price = u.price
    AND before.quantity = u.so_far - u.quantity
  WHERE u.is_last OR (u.is_priced AND u.product_family IS NOT NULL)
), fixed AS (
  SELECT
    i.*,
    span.end_date AS upto,
    -- the first day no invoice covers
    greatest(
      i.start_date, coalesce(i.trial_end, i.start_date),
      coalesce((SELECT max(l.period_end) FROM ledger_line AS l
        WHERE l.source = i.source AND l.subscription_source_id = i.subscription_source_id
          AND l.meter IS NULL AND l.invoice_date <= span.end_date AND l.voided_date IS NULL), i.start_date)
    ) AS open_from
  FROM item AS i, span
  WHERE i.usage_type = 'licensed' AND i.monthly_amount <> 0
    -- one that ended after the period was active in it, whatever it is by now
    AND ((i.status IN ('active', 'past_due') AND i.ended_date IS NULL)
      OR (i.status IN ('active', 'past_due', 'canceled') AND i.ended_date > span.end_date))
    AND i.source_id NOT IN (
      SELECT subscription_item_source_id FROM revenue_schedule
      WHERE subscription_item_source_id IS NOT NULL AND legal_entity_id = span.entity AND NOT is_deleted
    )
), fixed_row AS (
  SELECT
    'fixed:' || source || ':' || source_id AS document, '' AS part,
    source, source_id, currency, product_family, product_source_id, customer_id,
    -- whole months since, then days of the month they fall in
    money(rounded_ratio(
      units(monthly_amount) * (
        CAST(months AS HUGEINT) * days_in_month + date_diff('day', CAST(open_from + to_months(months) AS DATE), upto) + 1
      ), CAST(days_in_month AS HUGEINT), quantum
    )) AS amount,
    CAST(NULL AS VARCHAR) AS fault, correlation_id, raw_ref
  FROM (
    SELECT
      fixed.*,
      CAST(date_sub('month', open_from, CAST(upto + INTERVAL 1 DAY AS DATE)) AS INTEGER) AS months,
      day(last_day(upto)) AS days_in_month
    FROM fixed WHERE open_from <= upto
  )
), agreed AS (
  -- ramps and free months: what the schedule of an item says by now, whatever was billed
  SELECT s.subscription_item_source_id AS source_id, sum(s.amount) AS amount
  FROM revenue_schedule AS s, span
  WHERE s.subscription_item_source_id IS NOT NULL AND s.legal_entity_id = span.entity AND s.recognition_date <= span.end_date AND NOT s.is_deleted
  GROUP BY ALL
), from_invoices AS (
  SELECT l.source, l.subscription_item_source_id AS source_id, sum(
    CASE WHEN l.is_ahead
      THEN sign(l.net) * least(
        abs(earned(l.net, l.period_start, date_diff('day', l.period_start, l.period_end), span.end_date, l.quantum)),
        abs(l.net) - abs(coalesce(u.unwound, 0)))
      ELSE l.net - coalesce(u.net, 0)
    END) AS amount
  FROM ledger_line AS l
  CROSS JOIN span
  LEFT JOIN (
    SELECT source, line_id, sum(unwound) AS unwound, sum(net) AS net FROM unwinding, span WHERE on_date <= span.end_date GROUP BY ALL
  ) AS u ON u.source = l.source AND u.line_id = l.line_id
  WHERE l.invoice_date <= span.end_date AND l.subscription_item_source_id IS NOT NULL
  GROUP BY ALL
), scheduled_row AS (
  SELECT
    'scheduled:' || i.source || ':' || i.source_id AS document, '' AS part,
    i.source, i.source_id, i.currency, i.product_family, i.product_source_id, i.customer_id,
    CAST(a.amount - coalesce(f.amount, 0) AS DECIMAL(18, 4)) AS amount,
    CAST(NULL AS VARCHAR) AS fault, i.correlation_id, i.raw_ref
  FROM agreed AS a
  JOIN item AS i USING (source_id)
  LEFT JOIN from_invoices AS f ON f.source = i.source AND f.source_id = i.source_id
), delivered AS (
  SELECT * FROM usage_row UNION ALL SELECT * FROM fixed_row UNION ALL SELECT * FROM scheduled_row
)
SELECT
  kind.event_type || ':' || span.name || ':' || d.document || d.part AS event_id,
  kind.event_type,
  d.document AS document_id, NULL AS document_number,
  CASE kind.event_type WHEN 'accrual' THEN span.end_date ELSE CAST(span.end_date + INTERVAL 1 DAY AS DATE) END AS event_date,
  d.currency, d.product_family, d.amount AS gross, span.end_date AS origin_date,
  coalesce(d.fault, CASE WHEN d.product_family IS NULL
    THEN 'product ' || coalesce(d.product_source_id, '(none)') || ' is not mapped to a family' END) AS held_reason,
  d.source, d.source_id, d.correlation_id, d.raw_ref
FROM delivered AS d, span, (VALUES ('accrual'), ('accrual_reversal')) AS kind(event_type)
WHERE d.amount IS NULL OR d.amount <> 0;
