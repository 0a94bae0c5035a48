-- Revenue earned in the period that holds run.until, of every line billed ahead: a row for the line as it was billed,
-- and one for each credit note, void, write-off or transfer that makes the period's release smaller. In another currency
-- each date's cumulative release is turned at the invoice's rate, so a line's releases add up to what was deferred.
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
    span.functional_quantum,
    -- where the last release ended: the former integration's at go-live for documents of before, else the last period's
    CAST(CASE
      WHEN l.invoice_date < span.go_live THEN greatest(span.start_date, span.go_live) - INTERVAL 1 DAY
      ELSE span.start_date - INTERVAL 1 DAY
    END AS DATE) AS base
  FROM ledger_line AS l, span
  WHERE l.is_ahead AND l.invoice_date <= span.end_date AND (l.period_start <= span.end_date OR l.is_stepped)
), served AS (
  SELECT
    *,
    CASE WHEN is_stepped THEN coalesce((
        SELECT max_by(p.earned, p.day) FROM progress AS p
        WHERE p.source = line.source AND p.line_id = line.line_id AND p.day <= line.upto
      ), 0) ELSE earned(net, period_start, days, upto, quantum) END AS earned_now,
    CASE WHEN is_stepped THEN coalesce((
        SELECT max_by(p.earned, p.day) FROM progress AS p
        WHERE p.source = line.source AND p.line_id = line.line_id AND p.day <= line.base
      ), 0) ELSE earned(net, period_start, days, base, quantum) END AS earned_before,
    -- prepaid usage that nobody drew is earned when its time is over
    is_prepaid AND period_end <= upto + 1 AS is_expired_now,
    is_prepaid AND period_end <= base + 1 AS is_expired_before
  FROM line
), reduced AS (
  -- the line by itself (step 0), then after each reduction of it: what those so far have taken, by now and by `base`
  SELECT served.*, 0 AS step, NULL AS kind, NULL AS reduction_id, 0 AS unwound_now, 0 AS unwound_before FROM served
  UNION ALL
  SELECT
    served.*, u.step, u.kind, u.reduction_id,
    sum(u.unwound) OVER so_far,
    sum(CASE WHEN u.on_date <= served.base THEN u.unwound ELSE 0 END) OVER so_far
  FROM served
  JOIN unwinding AS u ON u.source = served.source AND u.line_id = served.line_id AND u.on_date <= served.upto
  WINDOW so_far AS (PARTITION BY u.source, u.line_id ORDER BY u.step)
), cumulative AS (
  SELECT
    *,
    CAST(sign(net) * least(abs(earned_now), abs(net) - abs(unwound_now)) AS DECIMAL(18, 4)) AS now,
    CAST(CASE WHEN invoice_date <= base THEN
      sign(net) * least(abs(earned_before), abs(net) - abs(unwound_before))
    ELSE 0 END AS DECIMAL(18, 4)) AS before,
    CAST(net - unwound_now AS DECIMAL(18, 4)) AS whole_now,
    CAST(CASE WHEN invoice_date <= base THEN net - unwound_before END AS DECIMAL(18, 4)) AS whole_before,
    max(step) OVER (PARTITION BY source, line_id) AS last_step
  FROM reduced
), released AS (
  SELECT
    * EXCLUDE (now, before),
    now - before AS released,
    turned(now, net, whole_now, unwound_now, invoice_rate, functional_quantum)
      - turned(before, net, whole_before, unwound_before, invoice_rate, functional_quantum) AS turned,
    CASE WHEN is_prepaid AND step = last_step THEN
      CASE WHEN is_expired_now THEN whole_now - now ELSE 0 END - CASE WHEN is_expired_before THEN whole_before - before ELSE 0 END
    ELSE 0 END AS expired,
    turned(whole_now, net, whole_now, unwound_now, invoice_rate, functional_quantum)
      - turned(now, net, whole_now, unwound_now, invoice_rate, functional_quantum) AS turned_expired
  FROM cumulative
), part AS (
  -- each reduction's own part of the period's release, so that the rows add up to it
  SELECT
    *,
    released - coalesce(lag(released) OVER steps, 0) AS amount,
    turned - coalesce(lag(turned) OVER steps, 0) AS amount_turned
  FROM released
  WINDOW steps AS (PARTITION BY source, line_id ORDER BY step)
), row_of AS (
  SELECT
    CASE WHEN is_prepaid THEN 'prepaid_drawn' ELSE 'release' END AS event_type,
    CASE WHEN step = 0 THEN '' ELSE ':less:' || kind || ':' || reduction_id END AS suffix, *
  FROM part WHERE amount <> 0 OR amount_turned <> 0
  UNION ALL BY NAME
  SELECT 'prepaid_expired' AS event_type, '' AS suffix, * REPLACE (expired AS amount, turned_expired AS amount_turned)
  FROM part WHERE expired <> 0
)
SELECT
  p.event_type || ':' || p.period || ':' || p.source || ':' || p.line_id || p.suffix AS event_id,
  p.event_type,
  p.document_id,
  coalesce(n.number, p.number) AS document_number,
  p.upto AS event_date, p.currency, p.product_family,
  CAST(p.amount AS DECIMAL(18, 4)) AS gross,
  CASE WHEN p.currency <> run.functional THEN CAST(p.amount_turned AS DECIMAL(18, 4)) END AS functional,
  p.invoice_date AS origin_date,
  CASE
    WHEN p.product_family IS NULL
      THEN 'product ' || coalesce(p.product_source_id, '(none)') || ' is not mapped to a family'
    WHEN p.is_waiting THEN 'its invoice waits'
    WHEN run.schedule_source = 'file' AND NOT EXISTS (
      SELECT 1 FROM progress AS g WHERE g.source = p.source AND g.line_id = p.line_id
    ) THEN 'no revenue schedule came for the invoice line'
  END AS held_reason,
  p.source,
  coalesce(p.reduction_id, p.line_id) AS source_id,
  coalesce(c.correlation_id, p.correlation_id) AS correlation_id,
  coalesce(c.raw_ref, p.raw_ref) AS raw_ref
FROM row_of AS p
CROSS JOIN run
LEFT JOIN credit_note_line AS c ON p.kind = 'credit_note' AND c.source = p.source AND c.source_id = p.reduction_id
LEFT JOIN credit_note AS n ON n.source = c.source AND n.source_id = c.credit_note_source_id;
