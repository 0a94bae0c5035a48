-- Every finalised invoice line that was billed ahead of its service, and what later unwound it.
-- The ledger releases at period ends (and had released to the day before go-live for documents of before):
-- `base` is the last date up to which revenue had been released when a credit, void or write-off happened.
CREATE OR REPLACE TEMP TABLE ledger_invoice AS
SELECT
  i.*,
  i.source || ':' || i.source_id AS document_id,
  q.quantum,
  t.to_entity_id, t.effective_date AS moved_date
FROM invoice AS i
JOIN run ON i.legal_entity_id = run.entity
LEFT JOIN minor_unit AS q ON q.currency = i.currency
LEFT JOIN entity_transfer AS t
  ON t.subscription_source_id = i.subscription_source_id AND t.legal_entity_id = i.legal_entity_id
  AND t.effective_date > i.accounting_date AND t.to_entity_id <> i.legal_entity_id AND NOT t.is_deleted
WHERE i.status <> 'draft'
  AND i.accounting_date IS NOT NULL
  AND NOT i.is_deleted;

CREATE OR REPLACE TEMP TABLE ledger_line AS
WITH line AS (
  SELECT
    l.source,
    l.source_id AS line_id,
    i.source_id AS invoice_id,
    i.document_id,
    i.number,
    i.customer_id,
    i.accounting_date AS invoice_date,
    i.voided_date,
    i.uncollectible_date,
    i.moved_date,
    i.to_entity_id,
    i.total,
    i.quantum,
    l.line_no,
    l.amount AS net,
    l.tax,
    l.tax_code,
    l.product_family,
    l.product_source_id,
    l.currency,
    l.quantity,
    l.subscription_source_id,
    l.subscription_item_source_id,
    l.meter,
    l.period_start,
    l.period_end,
    coalesce(l.period_end > i.accounting_date AND l.period_end > l.period_start, false) AS is_ahead,
    l.correlation_id,
    l.raw_ref,
    row_number() OVER (PARTITION BY i.document_id ORDER BY l.line_no DESC, l.source_id DESC) = 1 AS is_last,
    sum(l.amount + l.tax) OVER (PARTITION BY i.document_id) AS lines_total,
    count(*) OVER (PARTITION BY i.document_id) AS line_count
  FROM ledger_invoice AS i
  JOIN invoice_line AS l ON l.source = i.source AND l.invoice_source_id = i.source_id AND NOT l.is_deleted
), taken_over AS (
  -- what another entity billed ahead for a subscription that is ours from a day on: a line of its unreleased rest
  SELECT
    l.source, l.source_id AS line_id, i.source_id AS invoice_id, 'transfer:' || i.source || ':' || i.source_id AS document_id,
    i.number, i.customer_id, t.effective_date AS invoice_date,
    CAST(NULL AS DATE) AS voided_date, CAST(NULL AS DATE) AS uncollectible_date, CAST(NULL AS DATE) AS moved_date,
    CAST(NULL AS VARCHAR) AS to_entity_id, CAST(0 AS DECIMAL(18, 4)) AS total, q.quantum, l.line_no,
    unreleased(l.amount, credited.net, l.period_start, l.period_end, CAST(t.effective_date - INTERVAL 1 DAY AS DATE), q.quantum) AS net,
    CAST(0 AS DECIMAL(18, 4)) AS tax, CAST(NULL AS VARCHAR) AS tax_code, l.product_family, l.product_source_id, l.currency,
    l.quantity, l.subscription_source_id, l.subscription_item_source_id, CAST(NULL AS VARCHAR) AS meter,
    greatest(l.period_start, t.effective_date) AS period_start, l.period_end, true AS is_ahead,
    l.correlation_id, l.raw_ref, false AS is_last, CAST(0 AS DECIMAL(18, 4)) AS lines_total, 1 AS line_count
  FROM entity_transfer AS t
  JOIN run ON t.to_entity_id = run.entity AND t.legal_entity_id <> run.entity
  JOIN invoice AS i
    ON i.subscription_source_id = t.subscription_source_id
    AND i.legal_entity_id = t.legal_entity_id AND i.accounting_date < t.effective_date AND i.status <> 'draft'
    AND (i.voided_date IS NULL OR i.voided_date >= t.effective_date) AND NOT i.is_deleted
  JOIN invoice_line AS l ON l.source = i.source AND l.invoice_source_id = i.source_id AND NOT l.is_deleted
  LEFT JOIN minor_unit AS q ON q.currency = i.currency
  LEFT JOIN LATERAL (
    SELECT coalesce(sum(c.amount), 0) AS net
    FROM credit_note_line AS c
    JOIN credit_note AS n ON n.source = c.source AND n.source_id = c.credit_note_source_id
    WHERE c.source = l.source AND c.invoice_line_source_id = l.source_id AND NOT c.is_deleted
      AND n.status = 'issued' AND NOT n.is_deleted AND n.accounting_date < t.effective_date
  ) AS credited ON true
  WHERE l.meter IS NULL AND l.period_end > t.effective_date AND l.period_end > i.accounting_date AND l.period_end > l.period_start
    AND NOT t.is_deleted
)
SELECT
  line.* REPLACE (CAST(net AS DECIMAL(18, 4)) AS net),
  false AS is_taken_over,
  -- what the document's total has beyond its lines: rounding on the total instead of by line, shown on its last line
  CASE WHEN is_last THEN total - lines_total ELSE 0 END AS rounding,
  abs(units(total - lines_total)) > line_count * quantum AS is_contradictory,
  -- the invoice itself is not posted: nothing that builds on it may be either
  invoice_date >= run.go_live AND (
    bool_or(product_family IS NULL) OVER (PARTITION BY document_id)
    OR abs(units(total - lines_total)) > line_count * quantum
  ) AS is_waiting,
  is_ahead AND (run.schedule_source = 'file' OR (meter IS NOT NULL AND quantity > 0)) AS is_stepped,
  is_ahead AND run.schedule_source <> 'file' AND coalesce(meter IS NOT NULL AND quantity > 0, false) AS is_prepaid,
  r.rate AS invoice_rate
FROM line
CROSS JOIN run
ASOF LEFT JOIN functional_rate AS r ON r.currency = line.currency AND r.rate_date <= line.invoice_date
UNION ALL BY NAME
SELECT t.*, true AS is_taken_over, 0 AS rounding, false AS is_contradictory, false AS is_waiting, false AS is_stepped,
  false AS is_prepaid, r.rate AS invoice_rate
FROM taken_over AS t
ASOF LEFT JOIN functional_rate AS r ON r.currency = t.currency AND r.rate_date <= t.invoice_date
WHERE t.net <> 0;

CREATE OR REPLACE TEMP TABLE prepaid AS
SELECT
  source, line_id, subscription_source_id, meter, net, quantum, quantity, period_start, period_end,
  row_number() OVER (PARTITION BY subscription_source_id, meter ORDER BY period_end, period_start, source, line_id) AS turn
FROM ledger_line WHERE is_prepaid;

-- which usage each prepaid line serves: the one that ends first is drawn down first
CREATE OR REPLACE TEMP TABLE drawn AS
WITH RECURSIVE walk AS (
  SELECT
    u.subscription_source_id, u.meter, u.period_start AS day, CAST(u.quantity AS DECIMAL(38, 9)) AS left_over,
    CAST(0 AS DECIMAL(38, 9)) AS taken, CAST(0 AS BIGINT) AS turn
  FROM usage_summary AS u
  WHERE u.grain = 'day' AND (u.subscription_source_id, u.meter) IN (SELECT (subscription_source_id, meter) FROM prepaid)
  UNION ALL
  SELECT subscription_source_id, meter, day, left_over - taken, taken, turn
  FROM (
    SELECT
      w.subscription_source_id, w.meter, w.day, w.left_over, p.turn,
      CAST(CASE WHEN w.day >= p.period_start AND w.day < p.period_end THEN greatest(0, least(w.left_over,
        p.quantity - coalesce(sum(CASE WHEN w.day >= p.period_start AND w.day < p.period_end THEN w.left_over ELSE 0 END) OVER (
          PARTITION BY w.subscription_source_id, w.meter ORDER BY w.day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0)))
      ELSE 0 END AS DECIMAL(38, 9)) AS taken
    FROM walk AS w
    JOIN prepaid AS p
      ON p.subscription_source_id = w.subscription_source_id AND p.meter = w.meter AND p.turn = w.turn + 1
  ) AS served
)
SELECT p.source, p.line_id, w.subscription_source_id, w.meter, w.day, w.taken
FROM walk AS w
JOIN prepaid AS p ON p.subscription_source_id = w.subscription_source_id AND p.meter = w.meter AND p.turn = w.turn
WHERE w.taken > 0;

-- what a line that is no straight line has earned from a day on: prepaid usage by what was drawn, else its schedule
CREATE OR REPLACE TEMP TABLE progress AS
SELECT
  p.source, p.line_id, d.day,
  CAST(money(rounded_ratio(
    units(p.net) * CAST(sum(d.taken) OVER so_far * 1000000 AS HUGEINT), CAST(p.quantity * 1000000 AS HUGEINT), p.quantum
  )) AS DECIMAL(18, 4)) AS earned
FROM prepaid AS p
JOIN drawn AS d USING (source, line_id)
WINDOW so_far AS (PARTITION BY p.source, p.line_id ORDER BY d.day)
UNION ALL
SELECT
  l.source, l.line_id, s.recognition_date,
  CAST(sum(sum(s.amount)) OVER (PARTITION BY l.source, l.line_id ORDER BY s.recognition_date) AS DECIMAL(18, 4))
FROM revenue_schedule AS s
JOIN run ON s.legal_entity_id = run.entity AND run.schedule_source = 'file'
JOIN ledger_line AS l ON l.line_id = s.invoice_line_source_id
WHERE NOT s.is_deleted
GROUP BY l.source, l.line_id, s.recognition_date;

-- what reduces an invoice: payments and credit notes what is open of it, credit notes also what was ever owed
CREATE OR REPLACE TEMP VIEW receivable_reduction AS
SELECT
  a.source, a.invoice_source_id, coalesce(p.settled_date, p.accounting_date) AS on_date,
  a.amount + coalesce(a.withheld, 0) AS amount, 0 AS credited
FROM payment_allocation AS a
JOIN payment AS p ON p.source = a.source AND p.source_id = a.payment_source_id
WHERE p.status = 'succeeded' AND NOT a.is_deleted
UNION ALL
SELECT n.source, n.invoice_source_id, n.accounting_date, n.to_receivable, n.total
FROM credit_note AS n
WHERE n.status = 'issued' AND NOT n.is_deleted;

-- the part of an invoice that was still open when it was given up: all of it where nothing was paid
CREATE OR REPLACE TEMP TABLE given_up AS
SELECT
  i.document_id, i.source, i.source_id, i.number, i.uncollectible_date, i.currency, i.correlation_id, i.raw_ref, i.moved_date,
  i.total - coalesce(i.credit_applied, 0) - coalesce((
    SELECT sum(r.amount) FROM receivable_reduction AS r
    WHERE r.source = i.source AND r.invoice_source_id = i.source_id AND r.on_date <= i.uncollectible_date
  ), 0) AS open_amount,
  i.total - coalesce((
    SELECT sum(r.credited) FROM receivable_reduction AS r
    WHERE r.source = i.source AND r.invoice_source_id = i.source_id AND r.on_date <= i.uncollectible_date
  ), 0) AS not_credited
FROM ledger_invoice AS i
WHERE i.uncollectible_date IS NOT NULL AND i.voided_date IS NULL;

CREATE OR REPLACE TEMP TABLE reduction AS
WITH credited AS (
  SELECT
    'credit_note' AS kind,
    n.accounting_date AS on_date,
    c.source,
    c.source_id AS reduction_id,
    c.invoice_line_source_id AS line_id,
    c.amount AS net,
    c.tax
  FROM credit_note AS n
  JOIN credit_note_line AS c ON c.source = n.source AND c.credit_note_source_id = n.source_id AND NOT c.is_deleted
  JOIN run ON n.legal_entity_id = run.entity
  WHERE n.status = 'issued' AND NOT n.is_deleted
), ended AS (
  SELECT 'uncollectible' AS kind, uncollectible_date AS on_date, source, line_id AS reduction_id, line_id
  FROM ledger_line WHERE uncollectible_date IS NOT NULL AND voided_date IS NULL
  UNION ALL
  SELECT 'void', voided_date, source, line_id, line_id FROM ledger_line WHERE voided_date IS NOT NULL
), moved AS (
  -- the unreleased rest of a line goes with its subscription to another entity
  SELECT 'transfer' AS kind, l.moved_date AS on_date, l.source, l.line_id AS reduction_id, l.line_id,
    unreleased(l.net, coalesce((
        SELECT sum(c.net) FROM credited AS c WHERE c.source = l.source AND c.line_id = l.line_id AND c.on_date < l.moved_date
      ), 0), l.period_start, l.period_end, CAST(l.moved_date - INTERVAL 1 DAY AS DATE), l.quantum) AS net
  FROM ledger_line AS l
  WHERE l.moved_date IS NOT NULL AND l.is_ahead AND NOT l.is_stepped AND l.period_end > l.moved_date
    AND (l.voided_date IS NULL OR l.voided_date >= l.moved_date)
)
SELECT kind, on_date, source, reduction_id, line_id, net, tax FROM credited
UNION ALL
SELECT kind, on_date, source, reduction_id, line_id, NULL, NULL FROM ended
UNION ALL
SELECT kind, on_date, source, reduction_id, line_id, net, 0 FROM moved WHERE net <> 0;

-- one step per reduction of a line, oldest first: `unwound` is what it takes from deferred revenue
CREATE OR REPLACE TEMP TABLE unwinding AS
WITH RECURSIVE ordered AS (
  SELECT
    r.*,
    l.net AS line_net,
    l.tax AS line_tax,
    l.is_ahead,
    l.is_stepped,
    l.quantum,
    l.invoice_date,
    l.period_start,
    date_diff('day', l.period_start, l.period_end) AS days,
    -- of what was left, the part that had not been paid
    CASE r.kind WHEN 'uncollectible' THEN units(least(g.open_amount, g.not_credited)) ELSE 1 END AS share_of,
    CASE WHEN r.kind = 'uncollectible' AND g.not_credited > 0 THEN units(g.not_credited) ELSE 1 END AS share_in,
    CAST(CASE
      WHEN r.kind = 'transfer' THEN r.on_date - INTERVAL 1 DAY
      WHEN l.invoice_date < run.go_live AND r.on_date >= run.go_live
        THEN greatest(f.start_date - INTERVAL 1 DAY, run.go_live - INTERVAL 1 DAY)
      ELSE f.start_date - INTERVAL 1 DAY
    END AS DATE) AS base,
    row_number() OVER (
      PARTITION BY r.source, r.line_id
      ORDER BY r.on_date, CASE r.kind WHEN 'transfer' THEN 0 WHEN 'credit_note' THEN 1 WHEN 'uncollectible' THEN 2 ELSE 3 END, r.reduction_id
    ) AS step
  FROM reduction AS r
  JOIN ledger_line AS l ON l.source = r.source AND l.line_id = r.line_id
  JOIN fiscal_period AS f ON r.on_date BETWEEN f.start_date AND f.end_date
  LEFT JOIN given_up AS g ON r.kind = 'uncollectible' AND g.document_id = l.document_id
  CROSS JOIN run
), released AS (
  SELECT
    ordered.*,
    CASE
      WHEN is_stepped AND invoice_date <= base THEN coalesce((
        SELECT max_by(p.earned, p.day) FROM progress AS p
        WHERE p.source = ordered.source AND p.line_id = ordered.line_id AND p.day <= ordered.base
      ), 0)
      WHEN is_ahead AND (invoice_date <= base OR kind = 'transfer') THEN earned(line_net, period_start, days, base, quantum)
      ELSE CAST(0 AS DECIMAL(18, 4))
    END AS earned_at_base
  FROM ordered
), first_step AS (
  SELECT
    *,
    coalesce(net, share(line_net, share_of, share_in, quantum)) AS step_net,
    coalesce(tax, share(line_tax, share_of, share_in, quantum)) AS step_tax
  FROM released WHERE step = 1
), walk AS (
  SELECT
    source, line_id, reduction_id, kind, on_date, step, base,
    CAST(step_net AS DECIMAL(18, 4)) AS net,
    CAST(step_tax AS DECIMAL(18, 4)) AS tax,
    CAST(step_net AS DECIMAL(18, 4)) AS net_so_far,
    CAST(step_tax AS DECIMAL(18, 4)) AS tax_so_far,
    CAST(CASE WHEN is_ahead THEN
      sign(line_net) * greatest(0, least(abs(step_net), abs(line_net - earned_at_base)))
    ELSE 0 END AS DECIMAL(18, 4)) AS unwound,
    CAST(CASE WHEN is_ahead THEN
      sign(line_net) * greatest(0, least(abs(step_net), abs(line_net - earned_at_base)))
    ELSE 0 END AS DECIMAL(18, 4)) AS unwound_so_far,
    earned_at_base AS released
  FROM first_step
  UNION ALL
  SELECT
    source, line_id, reduction_id, kind, on_date, step, base,
    net, tax,
    CAST(net_so_far + net AS DECIMAL(18, 4)),
    CAST(tax_so_far + tax AS DECIMAL(18, 4)),
    unwound,
    CAST(unwound_so_far + unwound AS DECIMAL(18, 4)),
    released
  FROM (
    SELECT
      s.*,
      CAST(CASE WHEN is_ahead THEN
        sign(line_net) * greatest(0, least(abs(net), abs(line_net) - abs(released) - abs(unwound_so_far)))
      ELSE 0 END AS DECIMAL(18, 4)) AS unwound
    FROM (
      SELECT
        r.source, r.line_id, r.reduction_id, r.kind, r.on_date, r.step, r.base, r.is_ahead, r.line_net,
        CAST(coalesce(r.net, share(r.line_net - w.net_so_far, r.share_of, r.share_in, r.quantum)) AS DECIMAL(18, 4)) AS net,
        CAST(coalesce(r.tax, share(r.line_tax - w.tax_so_far, r.share_of, r.share_in, r.quantum)) AS DECIMAL(18, 4)) AS tax,
        w.net_so_far, w.tax_so_far, w.unwound_so_far,
        CAST(CASE
          WHEN r.base = w.base THEN w.released
          ELSE sign(r.line_net) * least(abs(r.earned_at_base), abs(r.line_net) - abs(w.unwound_so_far))
        END AS DECIMAL(18, 4)) AS released
      FROM walk AS w
      JOIN released AS r ON r.source = w.source AND r.line_id = w.line_id AND r.step = w.step + 1
    ) AS s
  )
)
SELECT source, line_id, reduction_id, kind, on_date, step, net, tax, unwound FROM walk;

-- open invoices of a subscription that changes hands, as both entities see them
CREATE OR REPLACE TEMP TABLE moved_invoice AS
SELECT
  t.legal_entity_id AS from_entity, t.to_entity_id, t.effective_date,
  i.source, i.source_id, i.source || ':' || i.source_id AS document_id, i.number, i.accounting_date AS invoice_date, i.currency,
  i.correlation_id, i.raw_ref,
  i.total - coalesce(i.credit_applied, 0) - coalesce((
    SELECT sum(r.amount) FROM receivable_reduction AS r
    WHERE r.source = i.source AND r.invoice_source_id = i.source_id AND r.on_date < t.effective_date
  ), 0) AS open_amount
FROM entity_transfer AS t
JOIN run ON run.entity IN (t.legal_entity_id, t.to_entity_id)
JOIN invoice AS i
  ON i.subscription_source_id = t.subscription_source_id AND i.legal_entity_id = t.legal_entity_id
  AND i.accounting_date < t.effective_date AND i.status <> 'draft' AND i.total > 0 AND NOT i.is_deleted
  AND (i.voided_date IS NULL OR i.voided_date >= t.effective_date)
  AND (i.uncollectible_date IS NULL OR i.uncollectible_date >= t.effective_date)
WHERE t.legal_entity_id <> t.to_entity_id AND NOT t.is_deleted;
