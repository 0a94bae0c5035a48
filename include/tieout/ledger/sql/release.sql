-- Revenue earned in the period ($period: fiscal_period of run.until) of every line billed ahead.
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
), position AS (
  SELECT
    line.*,
    coalesce((SELECT sum(u.unwound) FROM unwinding AS u
      WHERE u.source = line.source AND u.line_id = line.line_id AND u.on_date <= line.upto), 0) AS unwound_now,
    coalesce((SELECT sum(u.unwound) FROM unwinding AS u
      WHERE u.source = line.source AND u.line_id = line.line_id AND u.on_date <= line.base), 0) AS unwound_before
  FROM line
), released AS (
  SELECT
    *,
    sign(net) * least(abs(earned(net, period_start, days, upto, quantum)), abs(net) - abs(unwound_now)) AS released_now,
    CASE WHEN invoice_date <= base THEN
      sign(net) * least(abs(earned(net, period_start, days, base, quantum)), abs(net) - abs(unwound_before))
    ELSE 0 END AS released_before
  FROM position
)
SELECT
  'release:' || period || ':' || source || ':' || line_id AS event_id,
  'release' AS event_type,
  document_id, number AS document_number, upto AS event_date, currency, product_family, NULL AS tax_code,
  0 AS net, 0 AS tax, CAST(released_now - released_before AS DECIMAL(18, 4)) AS gross,
  0 AS deferred, 0 AS recognised, 0 AS to_receivable, 0 AS to_credit, 0 AS rounding,
  CASE
    WHEN product_family IS NULL THEN 'product ' || coalesce(product_source_id, '(none)') || ' is not mapped to a family'
    WHEN is_waiting THEN 'its invoice waits'
  END AS held_reason,
  source, line_id AS source_id, correlation_id, raw_ref
FROM released
WHERE released_now <> released_before;
