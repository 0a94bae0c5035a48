-- Lines of the journals we posted for business dates up to this one, those the ERP holds otherwise among them.
SELECT
  l.run_key, l.line_no, j.legal_entity_id, l.currency, l.account, j.accounting_date,
  l.side || ' of account ' || l.account || ', ' || l.description AS about,
  CASE l.side WHEN 'debit' THEN l.amount ELSE -l.amount END AS amount
FROM journal_lines AS l
JOIN journals AS j ON j.run_key = l.run_key
JOIN journal_state AS s ON s.run_key = l.run_key AND s.state IN ('posted', 'mismatched')
WHERE j.business_date <= $business_date
