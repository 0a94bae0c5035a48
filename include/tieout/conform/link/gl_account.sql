-- An account's role by finance's account mapping, and whether nobody but Tieout should post there. A ledger with account
-- codes of its own (mappings/charts.csv) is told by its source.
WITH roles AS (
  SELECT legal_entity_id, source, account, min(role) AS role, bool_or(is_controlled) AS is_controlled
  FROM account_roles GROUP BY ALL
)
SELECT m.* REPLACE (
  coalesce(charted.role, own.role, everyone.role) AS role,
  coalesce(charted.is_controlled, own.is_controlled, everyone.is_controlled, false) AS is_controlled
)
FROM merged_gl_account m
LEFT JOIN roles charted
  ON charted.account = m.code AND charted.legal_entity_id = m.legal_entity_id AND charted.source = m.source
LEFT JOIN roles own ON own.account = m.code AND own.legal_entity_id = m.legal_entity_id AND own.source = '*'
LEFT JOIN roles everyone ON everyone.account = m.code AND everyone.legal_entity_id = '*' AND everyone.source = '*'
