-- Revenue earned in the period that holds run.until, of every line billed ahead: a row for the line as it was billed,
-- and one for each credit note, void or write-off that makes the period's release smaller.
CREATE OR REPLACE TEMP TABLE release_event AS
WITH span AS (
  SELECT f.name, f.start_date, f.end_date, run.*
  FROM fiscal_period AS f, run WHERE run.until BETWEEN f.start_date AND f.end_date
), line AS (
  SELECT
    l.*,
    date_diff('day', l.period_start, l.period_end) AS days,
    span.name AS period,
    span.end_date AS upto,
    span.quantum,
    -- where the last release ended: the former integration's at go-live for documents of before, else the last period's
    CAST(CASE
      WHEN l.invoice_date < span.go_live THEN greatest(span.start_date, span.go_live) - INTERVAL 1 DAY
      ELSE span.start_date - INTERVAL 1 DAY
    END AS DATE) AS base
  FROM ledger_line AS l, span
  WHERE l.is_ahead AND l.invoice_date <= span.end_date AND l.period_start <= span.end_date
), reduced AS (
  -- the line by itself (step 0), then after each reduction of it: what those so far have taken, by now and by `base`
  SELECT line.*, 0 AS step, NULL AS kind, NULL AS reduction_id, 0 AS unwound_now, 0 AS unwound_before FROM line
  UNION ALL
  SELECT
    line.*, u.step, u.kind, u.reduction_id,
    sum(u.unwound) OVER so_far,
    sum(CASE WHEN u.on_date <= line.base THEN u.unwound ELSE 0 END) OVER so_far
  FROM line
  JOIN unwinding AS u ON u.source = line.source AND u.line_id = line.line_id AND u.on_date <= line.upto
  WINDOW so_far AS (PARTITION BY u.source, u.line_id ORDER BY u.step)
), released AS (
  SELECT
    *,
    sign(net) * least(abs(earned(net, period_start, days, upto, quantum)), abs(net) - abs(unwound_now))
      - CASE WHEN invoice_date <= base THEN
          sign(net) * least(abs(earned(net, period_start, days, base, quantum)), abs(net) - abs(unwound_before))
        ELSE 0 END AS released
  FROM reduced
), part AS (
  -- each reduction's own part of the period's release, so that the rows add up to it
  SELECT *, released - coalesce(lag(released) OVER (PARTITION BY source, line_id ORDER BY step), 0) AS amount
  FROM released
)
SELECT
  'release:' || p.period || ':' || p.source || ':' || p.line_id
    || CASE WHEN p.step = 0 THEN '' ELSE ':less:' || p.kind || ':' || p.reduction_id END AS event_id,
  'release' AS event_type,
  p.document_id,
  coalesce(n.number, p.number) AS document_number,
  p.upto AS event_date, p.currency, p.product_family, NULL AS tax_code,
  0 AS net, 0 AS tax, CAST(p.amount AS DECIMAL(18, 4)) AS gross,
  0 AS deferred, 0 AS recognised, 0 AS to_receivable, 0 AS to_credit, 0 AS rounding,
  CASE
    WHEN p.product_family IS NULL
      THEN 'product ' || coalesce(p.product_source_id, '(none)') || ' is not mapped to a family'
    WHEN p.is_waiting THEN 'its invoice waits'
  END AS held_reason,
  p.source,
  coalesce(p.reduction_id, p.line_id) AS source_id,
  coalesce(c.correlation_id, p.correlation_id) AS correlation_id,
  coalesce(c.raw_ref, p.raw_ref) AS raw_ref
FROM part AS p
LEFT JOIN credit_note_line AS c ON p.kind = 'credit_note' AND c.source = p.source AND c.source_id = p.reduction_id
LEFT JOIN credit_note AS n ON n.source = c.source AND n.source_id = c.credit_note_source_id
WHERE p.amount <> 0;
