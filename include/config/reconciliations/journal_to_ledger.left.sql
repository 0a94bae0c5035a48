-- Lines of the journals we posted for business dates up to this one, those the ERP holds otherwise among them. Copies of
-- them in a second ledger are lines of their own, told by that ledger in front of the run key; one that its mirror undid
-- there is none.
WITH placed AS (
  SELECT j.run_key, j.run_key AS named, j.ledger
  FROM journals AS j JOIN journal_state AS s ON s.run_key = j.run_key AND s.state IN ('posted', 'mismatched')
  WHERE j.business_date <= $business_date
  UNION ALL
  SELECT j.run_key, c.ledger || ':' || j.run_key, c.ledger
  FROM journals AS j JOIN journal_copy AS c ON c.run_key = j.run_key AND c.state IN ('posted', 'mismatched')
  LEFT JOIN journal_copy AS m ON m.run_key = c.run_key || '/reversed' AND m.ledger = c.ledger AND m.state = 'posted'
  WHERE j.business_date <= $business_date AND m.run_key IS NULL
)
SELECT
  p.named AS run_key, l.line_no, j.legal_entity_id, l.currency,
  coalesce(c.ledger_account, l.account) AS account,
  j.accounting_date,
  l.side || ' of account ' || coalesce(c.ledger_account, l.account) || ', ' || l.description AS about,
  CASE l.side WHEN 'debit' THEN l.amount ELSE -l.amount END AS amount
FROM placed AS p
JOIN journals AS j ON j.run_key = p.run_key
JOIN journal_lines AS l ON l.run_key = p.run_key
LEFT JOIN chart AS c ON c.legal_entity_id = j.legal_entity_id AND c.ledger = p.ledger AND c.account = l.account
