-- Lines of the journals we posted for business dates up to this one, those the ERP holds otherwise among them. Of one that
-- somebody wrote into the ERP by hand instead, what it holds on each account: its lines have an order of their own. Copies of
-- them in a second ledger are lines of their own, told by that ledger in front of the run key; one that its mirror undid
-- there is none.
WITH placed AS (
  SELECT j.run_key, j.run_key AS named, j.ledger, s.state = 'by_hand' AS is_by_hand
  FROM journals AS j JOIN journal_state AS s ON s.run_key = j.run_key AND s.state IN ('posted', 'mismatched', 'by_hand')
  WHERE j.business_date <= $business_date
  UNION ALL
  SELECT j.run_key, c.ledger || ':' || j.run_key, c.ledger, false
  FROM journals AS j JOIN journal_copy AS c ON c.run_key = j.run_key AND c.state IN ('posted', 'mismatched')
  LEFT JOIN journal_copy AS m ON m.run_key = c.run_key || '/reversed' AND m.ledger = c.ledger AND m.state = 'posted'
  WHERE j.business_date <= $business_date AND m.run_key IS NULL
), line AS (
  SELECT
    p.named AS run_key, l.line_no, p.is_by_hand, j.legal_entity_id, l.currency,
    coalesce(c.ledger_account, l.account) AS account,
    j.accounting_date,
    l.side || ' of account ' || coalesce(c.ledger_account, l.account) || ', ' || l.description AS about,
    CASE l.side WHEN 'debit' THEN l.amount ELSE -l.amount END AS amount
  FROM placed AS p
  JOIN journals AS j ON j.run_key = p.run_key
  JOIN journal_lines AS l ON l.run_key = p.run_key
  LEFT JOIN chart AS c ON c.legal_entity_id = j.legal_entity_id AND c.ledger = p.ledger AND c.account = l.account
)
SELECT run_key, CAST(line_no AS VARCHAR) AS line_no, legal_entity_id, currency, account, accounting_date, about, amount
FROM line WHERE NOT is_by_hand
UNION ALL
SELECT run_key, account, legal_entity_id, currency, account, accounting_date, 'account ' || account || ', written by hand',
  CAST(sum(amount) AS DECIMAL(18, 4))
FROM line WHERE is_by_hand GROUP BY ALL
