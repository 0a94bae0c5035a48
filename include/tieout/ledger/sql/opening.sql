-- Open documents the day before go-live by account role, debit positive.
WITH cut AS (
  SELECT CAST(go_live - INTERVAL 1 DAY AS DATE) AS as_of, entity, quantum FROM run
), open_invoice AS (
  SELECT
    i.total
      - coalesce(i.credit_applied, 0)
      - coalesce((
          SELECT sum(a.amount) FROM payment_allocation AS a
          JOIN payment AS p ON p.source = a.source AND p.source_id = a.payment_source_id
          WHERE a.source = i.source AND a.invoice_source_id = i.source_id AND p.status = 'succeeded'
            AND coalesce(p.settled_date, p.accounting_date) <= cut.as_of AND NOT a.is_deleted
        ), 0)
      - coalesce((
          SELECT sum(n.to_receivable) FROM credit_note AS n
          WHERE n.source = i.source AND n.invoice_source_id = i.source_id AND n.status = 'issued'
            AND n.accounting_date <= cut.as_of AND NOT n.is_deleted
        ), 0) AS amount
  FROM ledger_invoice AS i, cut
  WHERE i.accounting_date <= cut.as_of
    AND (i.voided_date IS NULL OR i.voided_date > cut.as_of)
    AND (i.uncollectible_date IS NULL OR i.uncollectible_date > cut.as_of)
), unwound AS (
  SELECT u.source, u.line_id, sum(u.unwound) AS amount
  FROM unwinding AS u, cut WHERE u.on_date <= cut.as_of GROUP BY ALL
), deferred AS (
  SELECT
    l.net - coalesce(u.amount, 0) - sign(l.net) * least(
      abs(earned(l.net, l.period_start, date_diff('day', l.period_start, l.period_end), cut.as_of, cut.quantum)),
      abs(l.net) - abs(coalesce(u.amount, 0))
    ) AS amount
  FROM ledger_line AS l
  CROSS JOIN cut
  LEFT JOIN unwound AS u ON u.source = l.source AND u.line_id = l.line_id
  WHERE l.is_ahead AND l.invoice_date <= cut.as_of
), clearing AS (
  SELECT b.net AS amount FROM balance_transaction AS b, cut
  WHERE b.legal_entity_id = cut.entity AND b.accounting_date <= cut.as_of AND NOT b.is_deleted
), transit AS (
  SELECT p.amount FROM payout AS p, cut
  WHERE p.legal_entity_id = cut.entity AND p.accounting_date <= cut.as_of AND p.status <> 'canceled' AND NOT p.is_deleted
    AND NOT EXISTS (
      SELECT 1 FROM bank_line AS b
      WHERE b.legal_entity_id = p.legal_entity_id AND b.booking_date <= cut.as_of AND b.amount > 0
        AND list_contains(string_split(b.reference, ' '), p.bank_reference)
    )
), credit AS (
  -- overpaid, or with no invoice to pay
  SELECT p.amount - coalesce(sum(a.amount), 0) AS amount
  FROM payment AS p
  JOIN cut ON p.legal_entity_id = cut.entity AND coalesce(p.settled_date, p.accounting_date) <= cut.as_of
  LEFT JOIN payment_allocation AS a
    ON a.source = p.source AND a.payment_source_id = p.source_id AND a.invoice_source_id IS NOT NULL AND NOT a.is_deleted
  WHERE p.status = 'succeeded' AND NOT p.is_deleted
  GROUP BY p.source, p.source_id, p.amount
  UNION ALL
  SELECT n.to_customer_credit FROM credit_note AS n, cut
  WHERE n.legal_entity_id = cut.entity AND n.status = 'issued' AND n.accounting_date <= cut.as_of AND NOT n.is_deleted
  UNION ALL
  SELECT -r.amount FROM refund AS r, cut
  WHERE r.legal_entity_id = cut.entity AND r.credit_note_source_id IS NOT NULL AND r.settled_date <= cut.as_of
    AND NOT r.is_deleted
  UNION ALL
  SELECT r.amount FROM refund AS r, cut
  WHERE r.legal_entity_id = cut.entity AND r.credit_note_source_id IS NOT NULL AND r.settled_date IS NOT NULL
    AND r.failed_date <= cut.as_of AND NOT r.is_deleted
  UNION ALL
  SELECT -i.credit_applied FROM ledger_invoice AS i, cut
  WHERE i.accounting_date <= cut.as_of AND (i.voided_date IS NULL OR i.voided_date > cut.as_of)
)
SELECT 'receivable', CAST(sum(amount) AS DECIMAL(18, 4)) FROM open_invoice
UNION ALL SELECT 'deferred_revenue', CAST(-sum(amount) AS DECIMAL(18, 4)) FROM deferred
UNION ALL SELECT 'processor_clearing', CAST(sum(amount) AS DECIMAL(18, 4)) FROM clearing
UNION ALL SELECT 'cash_in_transit', CAST(sum(amount) AS DECIMAL(18, 4)) FROM transit
UNION ALL SELECT 'customer_credit', CAST(-sum(amount) AS DECIMAL(18, 4)) FROM credit
ORDER BY 1
