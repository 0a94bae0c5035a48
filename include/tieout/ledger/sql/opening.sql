-- What is open the day before go-live by account role and currency, debit positive: in that currency, and in functional
-- currency at the rates the books hold it at. Clearing, credit and cash in transit have no document of one day, so they
-- are turned at that day's rate.
CREATE OR REPLACE TEMP TABLE opening_position AS
WITH cut AS (
  SELECT CAST(go_live - INTERVAL 1 DAY AS DATE) AS as_of, entity, functional, functional_quantum FROM run
), open_invoice AS (
  SELECT
    i.currency, i.accounting_date AS on_date,
    i.total - coalesce(i.credit_applied, 0) - coalesce((
      SELECT sum(r.amount) FROM receivable_reduction AS r
      WHERE r.source = i.source AND r.invoice_source_id = i.source_id AND r.on_date <= cut.as_of
    ), 0) AS amount
  FROM ledger_invoice AS i, cut
  WHERE i.accounting_date <= cut.as_of
    AND (i.moved_date IS NULL OR i.moved_date > cut.as_of)
    AND (i.voided_date IS NULL OR i.voided_date > cut.as_of)
    AND (i.uncollectible_date IS NULL OR i.uncollectible_date > cut.as_of)
), unwound AS (
  SELECT u.source, u.line_id, sum(u.unwound) AS amount
  FROM unwinding AS u, cut WHERE u.on_date <= cut.as_of GROUP BY ALL
), deferred AS (
  SELECT
    l.currency, l.invoice_date AS on_date,
    -(l.net - coalesce(u.amount, 0) - sign(l.net) * least(
      abs(CASE WHEN l.is_stepped THEN coalesce((
          SELECT max_by(p.earned, p.day) FROM progress AS p
          WHERE p.source = l.source AND p.line_id = l.line_id AND p.day <= cut.as_of
        ), 0) ELSE earned(l.net, l.period_start, date_diff('day', l.period_start, l.period_end), cut.as_of, l.quantum) END),
      abs(l.net) - abs(coalesce(u.amount, 0))
    )) AS amount
  FROM ledger_line AS l
  CROSS JOIN cut
  LEFT JOIN unwound AS u ON u.source = l.source AND u.line_id = l.line_id
  WHERE l.is_ahead AND l.invoice_date <= cut.as_of
), clearing AS (
  SELECT b.currency, cut.as_of AS on_date, b.net AS amount FROM balance_transaction AS b, cut
  WHERE b.legal_entity_id = cut.entity AND b.accounting_date <= cut.as_of AND NOT b.is_deleted
), transit AS (
  SELECT p.currency, p.accounting_date AS on_date, p.amount FROM payout AS p, cut
  WHERE p.legal_entity_id = cut.entity AND p.accounting_date <= cut.as_of AND p.status <> 'canceled' AND NOT p.is_deleted
    AND NOT EXISTS (
      SELECT 1 FROM bank_line AS b
      WHERE b.legal_entity_id = p.legal_entity_id AND b.booking_date <= cut.as_of AND b.amount > 0
        AND list_contains(string_split(b.reference, ' '), p.bank_reference)
    )
), unbilled AS (
  -- usage that no invoice of before covers, at the unit price its item has; the ledger holds it at the end of a period
  -- only, and takes it back the day after
  SELECT i.currency, cut.as_of AS on_date, rated(u.quantity, i.unit_amount, q.quantum) AS amount
  FROM usage_summary AS u
  CROSS JOIN cut
  JOIN subscription_item AS i
    ON i.subscription_source_id = u.subscription_source_id AND i.meter = u.meter AND i.legal_entity_id = cut.entity
    AND i.unit_amount IS NOT NULL AND NOT i.is_deleted
  LEFT JOIN minor_unit AS q ON q.currency = i.currency
  WHERE u.grain = 'period' AND u.period_end <= cut.as_of + 1
    AND EXISTS (SELECT 1 FROM fiscal_period AS f WHERE f.end_date = cut.as_of)
    AND NOT EXISTS (
      SELECT 1 FROM ledger_line AS l
      WHERE l.subscription_source_id = u.subscription_source_id AND l.meter = u.meter
        AND l.period_start = u.period_start AND l.invoice_date <= cut.as_of
    )
), credit AS (
  -- overpaid, or with no invoice to pay
  SELECT p.currency, cut.as_of AS on_date, p.amount - coalesce(sum(a.amount), 0) AS amount
  FROM payment AS p
  JOIN cut ON p.legal_entity_id = cut.entity AND coalesce(p.settled_date, p.accounting_date) <= cut.as_of
  LEFT JOIN payment_allocation AS a
    ON a.source = p.source AND a.payment_source_id = p.source_id AND a.invoice_source_id IS NOT NULL AND NOT a.is_deleted
  WHERE p.status = 'succeeded' AND NOT p.is_deleted
  GROUP BY p.source, p.source_id, p.amount, p.currency, cut.as_of
  UNION ALL
  SELECT n.currency, cut.as_of, n.to_customer_credit FROM credit_note AS n, cut
  WHERE n.legal_entity_id = cut.entity AND n.status = 'issued' AND n.accounting_date <= cut.as_of AND NOT n.is_deleted
  UNION ALL
  SELECT r.currency, cut.as_of, -r.amount FROM refund AS r, cut
  WHERE r.legal_entity_id = cut.entity AND r.credit_note_source_id IS NOT NULL AND r.settled_date <= cut.as_of
    AND NOT r.is_deleted
  UNION ALL
  SELECT r.currency, cut.as_of, r.amount FROM refund AS r, cut
  WHERE r.legal_entity_id = cut.entity AND r.credit_note_source_id IS NOT NULL AND r.settled_date IS NOT NULL
    AND r.failed_date <= cut.as_of AND NOT r.is_deleted
  UNION ALL
  SELECT i.currency, cut.as_of, -i.credit_applied FROM ledger_invoice AS i, cut
  WHERE i.accounting_date <= cut.as_of AND (i.voided_date IS NULL OR i.voided_date > cut.as_of)
), disputed AS (
  SELECT d.currency, d.withdrawn_date AS on_date, d.amount FROM dispute AS d, cut
  WHERE d.legal_entity_id = cut.entity AND d.withdrawn_date <= cut.as_of
    AND (d.closed_date IS NULL OR d.closed_date > cut.as_of) AND NOT d.is_deleted
), every_one AS (
  SELECT 'receivable' AS role, * FROM open_invoice
  UNION ALL SELECT 'deferred_revenue', * FROM deferred
  UNION ALL SELECT 'processor_clearing', * FROM clearing
  UNION ALL SELECT 'cash_in_transit', * FROM transit
  UNION ALL SELECT 'customer_credit', currency, on_date, -amount FROM credit
  UNION ALL SELECT 'unbilled_receivable', * FROM unbilled
  UNION ALL SELECT 'disputes_receivable', * FROM disputed
  UNION ALL SELECT role, cut.functional, cut.as_of, 0
  FROM (VALUES
    ('receivable'), ('deferred_revenue'), ('processor_clearing'), ('cash_in_transit'), ('customer_credit'),
    ('unbilled_receivable'), ('disputes_receivable')
  ) AS named(role), cut
)
SELECT
  e.role, e.currency, CAST(sum(e.amount) AS DECIMAL(18, 4)) AS open_amount,
  -- null where one of its documents has no rate
  CASE WHEN count(*) = count(CASE WHEN e.currency = cut.functional THEN 1 ELSE r.rate END) THEN
    CAST(sum(CASE WHEN e.currency = cut.functional THEN e.amount ELSE converted(e.amount, r.rate, cut.functional_quantum) END)
      AS DECIMAL(18, 4))
  END AS carried_at
FROM every_one AS e
CROSS JOIN cut
ASOF LEFT JOIN functional_rate AS r ON r.currency = e.currency AND r.rate_date <= e.on_date
GROUP BY e.role, e.currency;
