-- Every finalised invoice line that was billed ahead of its service, and what later unwound it.
-- The ledger releases at period ends (and had released to the day before go-live for documents of before):
-- `base` is the last date up to which revenue had been released when a credit, void or write-off happened.
CREATE OR REPLACE TEMP TABLE ledger_invoice AS
SELECT
  i.*,
  i.source || ':' || i.source_id AS document_id
FROM invoice AS i, run
WHERE i.legal_entity_id = run.entity
  AND i.status <> 'draft'
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
    i.total,
    l.line_no,
    l.amount AS net,
    l.tax,
    l.tax_code,
    l.product_family,
    l.product_source_id,
    l.currency,
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
)
SELECT
  *,
  -- what the document's total has beyond its lines: rounding on the total instead of by line, shown on its last line
  CASE WHEN is_last THEN total - lines_total ELSE 0 END AS rounding,
  abs(units(total - lines_total)) > line_count * (SELECT quantum FROM run) AS is_contradictory,
  -- the invoice itself is not posted: nothing that builds on it may be either
  invoice_date >= (SELECT go_live FROM run) AND (
    bool_or(product_family IS NULL) OVER (PARTITION BY document_id)
    OR abs(units(total - lines_total)) > line_count * (SELECT quantum FROM run)
  ) AS is_waiting
FROM line;

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
)
SELECT kind, on_date, source, reduction_id, line_id, net, tax FROM credited
UNION ALL
SELECT kind, on_date, source, reduction_id, line_id, NULL, NULL FROM ended;

-- one step per reduction of a line, oldest first: `unwound` is what it takes from deferred revenue
CREATE OR REPLACE TEMP TABLE unwinding AS
WITH RECURSIVE ordered AS (
  SELECT
    r.*,
    l.net AS line_net,
    l.tax AS line_tax,
    l.is_ahead,
    l.invoice_date,
    l.period_start,
    date_diff('day', l.period_start, l.period_end) AS days,
    CAST(CASE
      WHEN l.invoice_date < run.go_live AND r.on_date >= run.go_live
        THEN greatest(f.start_date - INTERVAL 1 DAY, run.go_live - INTERVAL 1 DAY)
      ELSE f.start_date - INTERVAL 1 DAY
    END AS DATE) AS base,
    row_number() OVER (
      PARTITION BY r.source, r.line_id
      ORDER BY r.on_date, CASE r.kind WHEN 'credit_note' THEN 0 WHEN 'uncollectible' THEN 1 ELSE 2 END, r.reduction_id
    ) AS step
  FROM reduction AS r
  JOIN ledger_line AS l ON l.source = r.source AND l.line_id = r.line_id
  JOIN fiscal_period AS f ON r.on_date BETWEEN f.start_date AND f.end_date
  CROSS JOIN run
), released AS (
  SELECT
    ordered.*,
    CASE
      WHEN is_ahead AND invoice_date <= base THEN earned(line_net, period_start, days, base, run.quantum)
      ELSE CAST(0 AS DECIMAL(18, 4))
    END AS earned_at_base
  FROM ordered, run
), walk AS (
  SELECT
    source, line_id, reduction_id, kind, on_date, step, base,
    CAST(coalesce(net, line_net) AS DECIMAL(18, 4)) AS net,
    CAST(coalesce(tax, line_tax) AS DECIMAL(18, 4)) AS tax,
    CAST(coalesce(net, line_net) AS DECIMAL(18, 4)) AS net_so_far,
    CAST(coalesce(tax, line_tax) AS DECIMAL(18, 4)) AS tax_so_far,
    CAST(CASE WHEN is_ahead THEN
      sign(line_net) * greatest(0, least(abs(coalesce(net, line_net)), abs(line_net - earned_at_base)))
    ELSE 0 END AS DECIMAL(18, 4)) AS unwound,
    CAST(CASE WHEN is_ahead THEN
      sign(line_net) * greatest(0, least(abs(coalesce(net, line_net)), abs(line_net - earned_at_base)))
    ELSE 0 END AS DECIMAL(18, 4)) AS unwound_so_far,
    earned_at_base AS released
  FROM released WHERE step = 1
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
        CAST(coalesce(r.net, r.line_net - w.net_so_far) AS DECIMAL(18, 4)) AS net,
        CAST(coalesce(r.tax, r.line_tax - w.tax_so_far) AS DECIMAL(18, 4)) AS tax,
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
