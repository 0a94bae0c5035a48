-- The ERPs' entries since each ledger was taken over: ours, and whoever else's. A journal that was copied into a second
-- ledger is told by that ledger in front of the run key. A document that somebody wrote in a journal's place is told by
-- the journal's run key, with what it holds on each account.
WITH by_hand AS (
  SELECT d.run_key, d.document, j.legal_entity_id, k.source
  FROM journal_document AS d
  JOIN journals AS j USING (run_key)
  JOIN entity_ledger AS k ON k.legal_entity_id = j.legal_entity_id AND k.ledger = j.ledger
),

told AS (
  SELECT e.* REPLACE (CAST(e.line_no AS VARCHAR) AS line_no)
  FROM gl_entry AS e
  ANTI JOIN by_hand AS b ON b.document = e.move_id AND b.legal_entity_id = e.legal_entity_id AND b.source = e.source
  UNION ALL BY NAME
  SELECT
    e.source, min(e.source_id) AS source_id, e.legal_entity_id, e.currency, e.account, e.accounting_date,
    CAST(greatest(sum(e.debit - e.credit), 0) AS DECIMAL(18, 4)) AS debit,
    CAST(greatest(sum(e.credit - e.debit), 0) AS DECIMAL(18, 4)) AS credit,
    min(e.narrative) AS narrative, b.run_key, e.account AS line_no, e.move_id, e.move_number, false AS is_deleted
  FROM gl_entry AS e
  JOIN by_hand AS b ON b.document = e.move_id AND b.legal_entity_id = e.legal_entity_id AND b.source = e.source
  WHERE NOT e.is_deleted
  GROUP BY ALL
),

entry AS (
  SELECT
    e.* EXCLUDE (run_key, narrative),
    -- the anchor of the audit log in a journal's memo is not what a break is about
    regexp_replace(e.narrative, ' · audit [^·]+$', '') AS narrative,
    e.run_key AS planned_key,
    -- the mirror that reverses a journal has the journal's key with an ending
    regexp_replace(e.run_key, '/reversed(/\d+)?$', '') AS origin_key,
    CASE WHEN k.ledger <> split_part(e.run_key, '/', 3) THEN k.ledger || ':' ELSE '' END || e.run_key AS run_key,
    k.ledger, k.taken_over_on
  FROM told AS e
  LEFT JOIN entity_ledger AS k ON k.legal_entity_id = e.legal_entity_id AND k.source = e.source
),

-- journals that were reversed, with their mirrors, account by account
undone AS (
  SELECT e.source, e.legal_entity_id, e.origin_key, e.planned_key, e.account, e.debit - e.credit AS amount, e.is_deleted
  FROM entry AS e JOIN journal_state AS s ON s.run_key = e.origin_key AND s.state = 'reversed'
),

-- accounts on which the two are not nothing: one was changed, taken out or entered again in the ERP
unequal AS (
  SELECT source, legal_entity_id, origin_key, account
  FROM undone SEMI JOIN (SELECT DISTINCT source, origin_key FROM undone WHERE planned_key <> origin_key) USING (source, origin_key)
  GROUP BY ALL
  HAVING sum(amount) FILTER (NOT is_deleted) <> 0
)
SELECT
  e.source_id AS entry_id, e.run_key, e.line_no, e.legal_entity_id, e.currency, e.account, e.accounting_date,
  e.debit - e.credit AS amount,
  coalesce(e.narrative, '(no description)') AS narrative,
  CASE WHEN e.run_key IS NOT NULL THEN e.run_key || '|' || e.line_no ELSE coalesce(e.narrative, '(no description)') || '|' || e.account END AS break_key,
  coalesce(a.is_controlled, true) AS is_controlled,
  coalesce((y.run_key IS NULL OR m.run_key IS NOT NULL) AND s.state = 'reversed' AND u.origin_key IS NULL, false)
    AS is_reversed,
  coalesce(CASE WHEN y.run_key IS NULL THEN s.state IN ('submitted', 'unknown', 'confirmed') ELSE y.state IN ('submitted', 'unknown') END, false)
    AS is_under_way,
  CASE WHEN e.debit - e.credit < 0 THEN 'credit' ELSE 'debit' END || ' of account ' || e.account || coalesce(' ' || a.name, '')
    || ', entry ' || coalesce(e.move_number, e.move_id) || ' of ' || e.accounting_date || ', "'
    || coalesce(e.narrative, '(no description)') || '"' AS about,
  CASE WHEN e.run_key IS NULL THEN 'ledger entry ' || coalesce(e.move_number, e.move_id) END AS cause
FROM entry AS e
JOIN legal_entity AS g ON g.id = e.legal_entity_id
LEFT JOIN gl_account AS a ON a.legal_entity_id = e.legal_entity_id AND a.code = e.account
  AND a.source = e.source
LEFT JOIN journals AS j ON j.run_key = e.planned_key
LEFT JOIN journal_copy AS y ON y.run_key = e.planned_key AND y.ledger = e.ledger
LEFT JOIN journal_state AS s ON s.run_key = e.origin_key
LEFT JOIN unequal AS u ON u.source = e.source AND u.legal_entity_id = e.legal_entity_id AND u.origin_key = e.origin_key
  AND u.account = e.account
LEFT JOIN journal_copy AS m ON m.run_key = s.run_key || '/reversed' AND m.ledger = e.ledger AND m.state = 'posted'
WHERE NOT e.is_deleted AND CASE
  WHEN e.run_key IS NULL THEN e.accounting_date BETWEEN coalesce(e.taken_over_on, g.go_live) AND $business_date
  ELSE coalesce(j.business_date, e.accounting_date) <= $business_date
END
