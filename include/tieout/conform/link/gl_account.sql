-- An account's role by finance's account mapping, and whether nobody but Tieout should post there.
WITH roles AS (
  SELECT legal_entity_id, account, min(role) AS role, bool_or(is_controlled) AS is_controlled
  FROM account_roles GROUP BY ALL
)
SELECT m.* REPLACE (
  coalesce(own.role, everyone.role) AS role,
  coalesce(own.is_controlled, everyone.is_controlled, false) AS is_controlled
)
FROM merged_gl_account m
LEFT JOIN roles own ON own.account = m.code AND own.legal_entity_id = m.legal_entity_id
LEFT JOIN roles everyone ON everyone.account = m.code AND everyone.legal_entity_id = '*'
