-- Payments, fees, refunds, disputes and payouts as accounting events. Where the processor settled in another currency,
-- `settled` is what arrived, in `settled_currency`.
CREATE OR REPLACE TEMP TABLE cash_event AS
WITH received AS (
  SELECT
    p.*,
    coalesce(p.settled_date, p.accounting_date) AS on_date,
    CASE WHEN b.currency <> p.currency THEN b.currency END AS settled_currency,
    CASE WHEN b.currency <> p.currency THEN b.amount END AS settled,
    q.quantum AS settled_quantum,
    CASE
      WHEN p.balance_transaction_id IS NOT NULL THEN 'processor'
      WHEN p.method = 'customer_balance' THEN 'credit'
      ELSE 'direct'
    END AS way
  FROM payment AS p
  JOIN run ON p.legal_entity_id = run.entity
  LEFT JOIN balance_transaction AS b ON b.source = p.source AND b.source_id = p.balance_transaction_id AND NOT b.is_deleted
  LEFT JOIN minor_unit AS q ON q.currency = b.currency
  WHERE p.status = 'succeeded' AND NOT p.is_deleted
), applied AS (
  SELECT
    r.source, r.source_id AS payment_id, r.way, r.on_date, r.currency, r.correlation_id, r.raw_ref,
    a.invoice_reference,
    coalesce(i.uncollectible_date < r.on_date AND i.voided_date IS NULL, false) AS is_recovery,
    coalesce(i.moved_date <= r.on_date, false) AS is_for_other,
    i.accounting_date AS origin_date,
    sum(a.amount) AS amount, sum(coalesce(a.withheld, 0)) AS withheld
  FROM received AS r
  JOIN payment_allocation AS a ON a.source = r.source AND a.payment_source_id = r.source_id AND NOT a.is_deleted
  JOIN ledger_invoice AS i ON i.source = a.source AND i.source_id = a.invoice_source_id
  GROUP BY ALL
), payment_row AS (
  SELECT
    'payment:' || source || ':' || payment_id || ':' || invoice_reference AS event_id,
    CASE
      WHEN way = 'credit' THEN 'credit_applied'
      WHEN is_for_other THEN 'collected_for_other_' || way
      WHEN is_recovery THEN 'recovery_' || way
      ELSE 'payment_' || way
    END AS event_type,
    source || ':' || payment_id AS document_id,
    invoice_reference AS document_number,
    on_date, currency,
    amount AS gross, amount AS to_receivable, 0 AS to_credit, origin_date,
    source, payment_id AS source_id, correlation_id, raw_ref
  FROM applied
  UNION ALL
  SELECT
    'payment:' || r.source || ':' || r.source_id || ':unapplied',
    CASE r.way WHEN 'processor' THEN 'payment_processor' ELSE 'payment_direct' END,
    r.source || ':' || r.source_id, r.reference, r.on_date, r.currency,
    r.amount - coalesce(a.amount, 0), 0, r.amount - coalesce(a.amount, 0), NULL,
    r.source, r.source_id, r.correlation_id, r.raw_ref
  FROM received AS r
  LEFT JOIN (SELECT source, payment_id, sum(amount) AS amount FROM applied GROUP BY ALL) AS a
    ON a.source = r.source AND a.payment_id = r.source_id
  WHERE r.way <> 'credit' AND r.amount <> coalesce(a.amount, 0)
), settled_row AS (
  -- a payment's rows share what arrived by their amounts, cumulatively, so the parts add up to it
  SELECT
    p.*, r.settled_currency,
    CASE WHEN r.settled_currency IS NOT NULL THEN
      money(rounded_ratio(units(r.settled) * units(sum(p.gross) OVER so_far), units(r.amount), r.settled_quantum))
        - money(rounded_ratio(units(r.settled) * (units(sum(p.gross) OVER so_far) - units(p.gross)), units(r.amount), r.settled_quantum))
    END AS settled
  FROM payment_row AS p
  JOIN received AS r ON r.source = p.source AND r.source_id = p.source_id
  WINDOW so_far AS (PARTITION BY p.source, p.source_id ORDER BY p.event_id)
), withheld_row AS (
  SELECT
    'withheld:' || source || ':' || payment_id || ':' || invoice_reference AS event_id, 'withholding' AS event_type,
    source || ':' || payment_id AS document_id, invoice_reference AS document_number, on_date, currency,
    withheld AS gross, withheld AS to_receivable, origin_date, source, payment_id AS source_id, correlation_id, raw_ref
  FROM applied WHERE withheld <> 0
), collected_elsewhere AS (
  -- the other half of a payment that reached the entity which billed a subscription before us
  SELECT
    'collected:' || a.source || ':' || a.source_id AS event_id, 'collected_by_other' AS event_type,
    p.source || ':' || p.source_id AS document_id, a.invoice_reference AS document_number,
    coalesce(p.settled_date, p.accounting_date) AS on_date, p.currency,
    a.amount AS gross, a.amount AS to_receivable, m.effective_date AS origin_date,
    a.source, a.source_id, p.correlation_id, p.raw_ref
  FROM moved_invoice AS m
  JOIN run ON m.to_entity_id = run.entity
  JOIN payment_allocation AS a ON a.source = m.source AND a.invoice_source_id = m.source_id AND NOT a.is_deleted
  JOIN payment AS p
    ON p.source = a.source AND p.source_id = a.payment_source_id AND p.legal_entity_id = m.from_entity
    AND p.status = 'succeeded' AND coalesce(p.method, '') <> 'customer_balance' AND NOT p.is_deleted
    AND coalesce(p.settled_date, p.accounting_date) >= m.effective_date
), movement AS (
  SELECT b.* FROM balance_transaction AS b, run
  WHERE b.legal_entity_id = run.entity AND NOT b.is_deleted
), disputed AS (
  -- an inquiry moves no money; of a dispute that was won in part, the rest is lost
  SELECT
    d.*,
    CASE
      WHEN d.status = 'lost' THEN 0
      WHEN r.currency = d.currency AND r.amount > 0 THEN least(r.amount, d.amount)
      ELSE d.amount
    END AS returned,
    coalesce(w.currency, d.currency) AS fee_currency
  FROM dispute AS d
  JOIN run ON d.legal_entity_id = run.entity
  LEFT JOIN (
    SELECT source, object_source_id, any_value(currency) AS currency, sum(amount) AS amount
    FROM movement WHERE reporting_category = 'dispute_reversal' GROUP BY ALL
  ) AS r ON r.source = d.source AND r.object_source_id = d.source_id
  LEFT JOIN (
    SELECT source, object_source_id, any_value(currency) AS currency FROM movement WHERE reporting_category = 'dispute' GROUP BY ALL
  ) AS w ON w.source = d.source AND w.object_source_id = d.source_id
  WHERE NOT d.is_deleted AND d.status NOT LIKE 'warning%'
), other_row AS (
  SELECT
    'fee:' || source || ':' || source_id AS event_id, 'fee' AS event_type, source || ':' || source_id AS document_id,
    object_source_id AS document_number, accounting_date AS on_date, currency,
    CASE WHEN reporting_category = 'fee' THEN fee - amount ELSE fee END AS gross,
    source, source_id, correlation_id, raw_ref
  FROM movement WHERE reporting_category NOT IN ('dispute', 'dispute_reversal')
  UNION ALL
  -- a negative invoice gives the credit itself, by its own rule
  SELECT
    'credit_applied:' || document_id, 'credit_applied', document_id || ':credit', number, accounting_date, currency,
    credit_applied, source, source_id, correlation_id, raw_ref
  FROM ledger_invoice WHERE total > 0 AND credit_applied <> 0
  UNION ALL
  -- a voided invoice gives back the credit it had taken
  SELECT
    'credit_returned:' || document_id, 'credit_applied', document_id || ':credit', number, voided_date, currency,
    -credit_applied, source, source_id, correlation_id, raw_ref
  FROM ledger_invoice WHERE total > 0 AND credit_applied <> 0 AND voided_date IS NOT NULL
  UNION ALL
  SELECT
    'refund:' || source || ':' || source_id,
    CASE WHEN credit_note_source_id IS NULL THEN 'refund_unexplained' ELSE 'refund_credited' END,
    source || ':' || source_id, NULL, settled_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM refund, run WHERE legal_entity_id = run.entity AND NOT is_deleted AND settled_date IS NOT NULL
  UNION ALL
  SELECT
    'refund_failed:' || source || ':' || source_id,
    CASE WHEN credit_note_source_id IS NULL THEN 'refund_unexplained_failed' ELSE 'refund_credited_failed' END,
    source || ':' || source_id, NULL, failed_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM refund, run
  WHERE legal_entity_id = run.entity AND NOT is_deleted AND settled_date IS NOT NULL AND failed_date IS NOT NULL
  UNION ALL
  SELECT
    'dispute:' || source || ':' || source_id, 'dispute_withdrawn', source || ':' || source_id, payment_source_id,
    withdrawn_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM disputed WHERE withdrawn_date IS NOT NULL
  UNION ALL
  SELECT
    'dispute_fee:' || source || ':' || source_id, 'dispute_fee', source || ':' || source_id, payment_source_id,
    withdrawn_date, fee_currency, fee, source, source_id, correlation_id, raw_ref
  FROM disputed WHERE withdrawn_date IS NOT NULL AND fee IS NOT NULL
  UNION ALL
  -- a processor gives the fee back with a dispute that was won
  SELECT
    'dispute_fee_returned:' || source || ':' || source_id, 'dispute_fee', source || ':' || object_source_id, NULL,
    accounting_date, currency, fee, source, source_id, correlation_id, raw_ref
  FROM movement WHERE reporting_category = 'dispute_reversal' AND fee <> 0
  UNION ALL
  SELECT
    'dispute_closed:' || source || ':' || source_id, 'dispute_won', source || ':' || source_id, payment_source_id,
    closed_date, currency, returned, source, source_id, correlation_id, raw_ref
  FROM disputed WHERE withdrawn_date IS NOT NULL AND closed_date IS NOT NULL AND returned <> 0
  UNION ALL
  SELECT
    CASE WHEN returned = 0 THEN 'dispute_closed:' ELSE 'dispute_rest:' END || source || ':' || source_id,
    'dispute_lost', source || ':' || source_id, payment_source_id,
    closed_date, currency, amount - returned, source, source_id, correlation_id, raw_ref
  FROM disputed WHERE withdrawn_date IS NOT NULL AND closed_date IS NOT NULL AND amount <> returned
  UNION ALL
  SELECT
    'payout:' || source || ':' || source_id, 'payout_sent', source || ':' || source_id, bank_reference,
    accounting_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM payout, run WHERE legal_entity_id = run.entity AND NOT is_deleted AND status <> 'canceled'
  UNION ALL
  SELECT
    'payout_failed:' || source || ':' || source_id, 'payout_failed', source || ':' || source_id, object_source_id,
    accounting_date, currency, amount, source, source_id, correlation_id, raw_ref
  FROM movement WHERE type IN ('payout_failure', 'payout_cancel')
), arrival AS (
  SELECT
    p.source AS payout_source, p.source_id AS payout_id, p.bank_reference, p.accounting_date, p.amount AS sent, b.*,
    count(*) OVER of_line AS payouts, sum(p.amount) OVER of_line AS sent_together
  FROM payout AS p
  JOIN run ON p.legal_entity_id = run.entity
  JOIN bank_line AS b
    ON b.legal_entity_id = p.legal_entity_id AND b.currency = p.currency AND NOT b.is_deleted
    AND p.bank_reference <> '' AND b.amount > 0
    -- the payout's reference stands at the end of, or as a word within, the remittance text
    AND list_contains(string_split(b.reference, ' '), p.bank_reference)
  WHERE NOT p.is_deleted
  WINDOW of_line AS (PARTITION BY b.source, b.source_id)
), arrived_row AS (
  -- of a bank line that names several payouts each is what was sent, if they add up to it; else they wait for each other.
  -- The books hold a payout at the rate of its own day
  SELECT
    'payout_arrived:' || payout_source || ':' || payout_id || ':' || source_id AS event_id, 'payout_arrived' AS event_type,
    CASE WHEN payouts = 1 THEN payout_source || ':' || payout_id ELSE 'bank_line:' || source || ':' || source_id END
      AS document_id,
    bank_reference AS document_number, booking_date AS on_date, currency,
    CASE WHEN payouts = 1 THEN amount ELSE sent END AS gross,
    CASE WHEN payouts > 1 AND sent_together <> amount THEN
      'the bank line names ' || payouts || ' payouts that do not add up to it' END AS held_reason,
    accounting_date AS origin_date, source, source_id, correlation_id, raw_ref
  FROM arrival
), settlement AS (
  -- what refunds and disputes took from, or gave back to, a processor's balance in another currency
  SELECT
    'refund:' || r.source || ':' || r.source_id AS event_id, b.currency AS settled_currency, abs(b.amount) AS settled
  FROM refund AS r
  JOIN movement AS b ON b.source = r.source AND b.source_id = r.balance_transaction_id AND b.currency <> r.currency
  UNION ALL
  SELECT 'refund_failed:' || r.source || ':' || r.source_id, any_value(b.currency), sum(abs(b.amount))
  FROM refund AS r
  JOIN movement AS b
    ON b.source = r.source AND b.object_source_id = r.source_id AND b.type IN ('refund_failure', 'payment_refund_failure')
    AND b.currency <> r.currency
  GROUP BY r.source, r.source_id
  UNION ALL
  SELECT
    CASE b.reporting_category WHEN 'dispute' THEN 'dispute:' ELSE 'dispute_closed:' END || d.source || ':' || d.source_id,
    any_value(b.currency), sum(abs(b.amount))
  FROM disputed AS d
  JOIN movement AS b
    ON b.source = d.source AND b.object_source_id = d.source_id
    AND b.reporting_category IN ('dispute', 'dispute_reversal') AND b.currency <> d.currency
  GROUP BY d.source, d.source_id, b.reporting_category
), origin AS (
  -- the day at whose rate the books hold what is settled: the invoice's for credit it takes
  SELECT 'credit_applied:' || document_id AS event_id, accounting_date AS origin_date FROM ledger_invoice
  UNION ALL
  SELECT 'credit_returned:' || document_id, accounting_date FROM ledger_invoice
  UNION ALL
  SELECT 'dispute_closed:' || source || ':' || source_id, withdrawn_date FROM disputed
  UNION ALL
  SELECT 'dispute_rest:' || source || ':' || source_id, withdrawn_date FROM disputed
), every_row AS (
  SELECT * FROM settled_row
  UNION ALL BY NAME
  SELECT * FROM withheld_row
  UNION ALL BY NAME
  SELECT * FROM collected_elsewhere
  UNION ALL BY NAME
  SELECT r.*, s.settled_currency, s.settled, o.origin_date
  FROM other_row AS r
  LEFT JOIN settlement AS s ON s.event_id = r.event_id AND r.event_type <> 'dispute_lost'
  LEFT JOIN origin AS o ON o.event_id = r.event_id
  UNION ALL BY NAME
  SELECT * FROM arrived_row
)
SELECT
  event_id, event_type, document_id, document_number, on_date AS event_date, currency,
  gross, to_receivable, to_credit, settled_currency, CAST(settled AS DECIMAL(18, 4)) AS settled, origin_date,
  held_reason, source, source_id, correlation_id, raw_ref
FROM every_row, run
WHERE on_date >= run.go_live;
