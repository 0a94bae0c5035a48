-- The ERP's entries since go-live: ours, and whoever else's.
SELECT
  e.source_id AS entry_id, e.run_key, e.line_no, e.legal_entity_id, e.currency, e.account, e.accounting_date,
  e.debit - e.credit AS amount,
  coalesce(e.narrative, '(no description)') AS narrative,
  CASE WHEN e.run_key IS NOT NULL THEN e.run_key || '|' || e.line_no ELSE coalesce(e.narrative, '(no description)') || '|' || e.account END AS break_key,
  coalesce(a.is_controlled, true) AS is_controlled,
  coalesce(s.state = 'reversed', false) AS is_reversed,
  coalesce(s.state IN ('submitted', 'unknown', 'confirmed'), false) AS is_under_way,
  CASE WHEN e.debit - e.credit < 0 THEN 'credit' ELSE 'debit' END || ' of account ' || e.account || coalesce(' ' || a.name, '')
    || ', entry ' || coalesce(e.move_number, e.move_id) || ' of ' || e.accounting_date || ', "'
    || coalesce(e.narrative, '(no description)') || '"' AS about,
  CASE WHEN e.run_key IS NULL THEN 'ledger entry ' || coalesce(e.move_number, e.move_id) END AS cause
FROM gl_entry AS e
JOIN legal_entity AS g ON g.id = e.legal_entity_id
LEFT JOIN gl_account AS a ON a.legal_entity_id = e.legal_entity_id AND a.code = e.account
LEFT JOIN journals AS j ON j.run_key = e.run_key
-- the mirror that reverses a journal has the journal's key with an ending
LEFT JOIN journal_state AS s ON s.run_key = regexp_replace(e.run_key, '/reversed(/\d+)?$', '')
WHERE NOT e.is_deleted AND CASE
  WHEN e.run_key IS NULL THEN e.accounting_date BETWEEN g.go_live AND $business_date
  ELSE coalesce(j.business_date, e.accounting_date) <= $business_date
END
