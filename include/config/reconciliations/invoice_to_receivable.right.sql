-- Receivables: the former integration's journal entries, in functional currency, and what our posted journals hold of
-- each invoice, in the invoice's own: a billing system knows no other.
WITH synced AS (
  SELECT
    e.legal_entity_id,
    regexp_extract(e.narrative, '^BillingSync (\S+)$', 1) AS number,
    'ledger entry ' || coalesce(min(e.move_number), e.move_id) AS document,
    min(e.currency) AS currency,
    coalesce(sum(e.debit - e.credit) FILTER (a.role IN ('receivable', 'customer_credit')), 0) AS amount,
    coalesce(sum(e.credit - e.debit) FILTER (a.role = 'tax_payable'), 0) AS tax,
    min(e.accounting_date) AS accounting_date
  FROM gl_entry AS e
  LEFT JOIN gl_account AS a ON a.legal_entity_id = e.legal_entity_id AND a.code = e.account AND a.source = e.source
  WHERE NOT e.is_deleted AND e.run_key IS NULL AND regexp_matches(e.narrative, '^BillingSync \S+$')
    AND e.accounting_date <= $business_date
  GROUP BY e.legal_entity_id, e.narrative, e.move_id
), posted AS (
  SELECT
    j.legal_entity_id,
    d.document_number AS number,
    'journal ' || min(j.run_key) AS document,
    min(coalesce(l.transaction_currency, l.currency)) AS currency,
    coalesce(sum(CASE l.side WHEN 'debit' THEN 1 ELSE -1 END * coalesce(d.transaction_amount, d.amount))
      FILTER (l.account_role IN ('receivable', 'customer_credit')), 0) AS amount,
    coalesce(sum(CASE l.side WHEN 'credit' THEN 1 ELSE -1 END * coalesce(d.transaction_amount, d.amount))
      FILTER (l.account_role = 'tax_payable'), 0) AS tax,
    min(j.accounting_date) AS accounting_date
  FROM journal_drilldown AS d
  JOIN journal_lines AS l ON l.run_key = d.run_key AND l.line_no = d.line_no
  JOIN journals AS j ON j.run_key = d.run_key
  JOIN journal_state AS s ON s.run_key = j.run_key AND s.state = 'posted'
  WHERE regexp_matches(l.event_type, '^(negative_)?invoice_') AND j.business_date <= $business_date
  GROUP BY j.legal_entity_id, d.document_number, coalesce(l.transaction_currency, l.currency)
), receivable AS (
  SELECT * FROM synced UNION ALL SELECT * FROM posted
)
SELECT r.*, coalesce(v.voided, false) AS is_void
FROM receivable AS r
LEFT JOIN (
  SELECT legal_entity_id, number, bool_or(status = 'void' AND voided_date <= $business_date) AS voided
  FROM invoice WHERE number IS NOT NULL GROUP BY ALL
) AS v ON v.legal_entity_id = r.legal_entity_id AND v.number = r.number
