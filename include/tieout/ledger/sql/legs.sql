-- Posting rules applied: each event becomes signed legs (debit positive), each with its GL account.
-- An event whose account is missing or undecided waits, with every other row of its document.
CREATE OR REPLACE TEMP VIEW applied AS
SELECT
  e.*,
  r.leg, r.role, r.stream, r.event_order, r.by_family, r.by_tax, r.settles, r.amount AS field,
  CASE WHEN r.rate = 'origin' THEN e.origin_rate ELSE e.own_rate END AS used_rate,
  CASE WHEN r.rate = 'origin' THEN e.origin_rate_source ELSE e.own_rate_source END AS used_source,
  CASE r.side WHEN 'debit' THEN 1 ELSE -1 END AS direction,
  CASE r.amount
    WHEN 'gross' THEN e.gross WHEN 'net' THEN e.net WHEN 'tax' THEN e.tax
    WHEN 'deferred' THEN e.deferred WHEN 'recognised' THEN e.recognised
    WHEN 'to_receivable' THEN e.to_receivable WHEN 'to_credit' THEN e.to_credit
    WHEN 'rounding' THEN e.rounding
    ELSE 0 END AS given,
  e.settled_currency IS NOT NULL AND e.settled_currency <> e.currency AS is_converted
FROM event AS e
LEFT JOIN rule AS r ON r.event_type = e.event_type;

CREATE OR REPLACE TEMP TABLE foreign_leg AS
WITH foreign_applied AS MATERIALIZED (
  SELECT a.*, u.quantum FROM applied AS a LEFT JOIN minor_unit AS u ON u.currency = a.into_currency WHERE a.is_foreign
), leg AS (
  SELECT
    * EXCLUDE (leg, currency), leg, currency AS transaction_currency, into_currency AS currency,
    direction * given AS transaction_signed,
    CASE
      WHEN field = 'functional' THEN direction * functional
      WHEN field = 'gross' AND functional IS NOT NULL THEN direction * functional
      WHEN currency = into_currency THEN direction * given
      ELSE converted(direction * given, used_rate, quantum)
    END AS signed
  FROM foreign_applied WHERE NOT (settles AND is_converted) AND field IS DISTINCT FROM 'exchange'
  UNION ALL BY NAME
  -- money that arrived in another currency: the two currencies meet in the conversion's own role
  SELECT
    a.* EXCLUDE (leg, role, currency, by_family, by_tax),
    a.leg + 100 * part.n AS leg,
    CASE part.n WHEN 0 THEN a.role ELSE (SELECT conversion FROM role_of) END AS role,
    a.by_family AND part.n = 0 AS by_family, a.by_tax AND part.n = 0 AS by_tax,
    CASE part.n WHEN 2 THEN a.currency ELSE a.settled_currency END AS transaction_currency,
    a.into_currency AS currency,
    a.direction * CASE part.n WHEN 0 THEN a.settled WHEN 1 THEN -a.settled ELSE a.given END AS transaction_signed,
    CASE part.n WHEN 1 THEN -1 ELSE 1 END * CASE
      WHEN a.settled_currency = a.into_currency THEN a.direction * a.settled
      ELSE converted(a.direction * a.settled, a.settled_rate, a.quantum)
    END AS signed
  FROM foreign_applied AS a, (VALUES (0), (1), (2)) AS part(n)
  WHERE a.settles AND a.is_converted
), left_over AS (
  -- in functional currency only: what rates leave is a gain or loss where the rule names one, else a residue
  SELECT event_id, event_date, -sum(signed) AS signed
  FROM leg GROUP BY event_id, event_date HAVING sum(signed) <> 0
), balancing AS (
  SELECT
    a.* EXCLUDE (leg, role, currency, by_family, by_tax), 0 AS transaction_signed, l.signed,
    a.currency AS transaction_currency, a.into_currency AS currency,
    CASE a.field WHEN 'exchange' THEN a.leg ELSE 99 END AS leg,
    CASE a.field WHEN 'exchange' THEN a.role ELSE (SELECT residue FROM role_of) END AS role,
    false AS by_family, false AS by_tax
  FROM foreign_applied AS a
  JOIN left_over AS l USING (event_id, event_date)
  QUALIFY row_number() OVER (
    PARTITION BY event_id, event_date ORDER BY CASE field WHEN 'exchange' THEN 0 ELSE 1 END, a.leg
  ) = 1
)
SELECT * FROM leg UNION ALL BY NAME SELECT * FROM balancing;

CREATE OR REPLACE TEMP TABLE raw_leg AS
SELECT
  event_id, event_type, document_id, document_number, legal_entity_id, event_date, currency, currency AS transaction_currency,
  leg, role, stream, event_order, field, row_count,
  CASE WHEN by_family THEN coalesce(product_family, '') ELSE '' END AS product_family,
  CASE WHEN by_tax THEN coalesce(tax_code, '') ELSE '' END AS tax_code,
  CAST(direction * given AS DECIMAL(18, 4)) AS signed, CAST(direction * given AS DECIMAL(18, 4)) AS transaction_signed,
  CAST(NULL AS DECIMAL(28, 12)) AS rate, CAST(NULL AS VARCHAR) AS rate_source,
  gross, event_currency, held_reason, source, source_id, correlation_id, raw_ref
FROM applied WHERE NOT is_foreign
UNION ALL BY NAME
SELECT
  event_id, event_type, document_id, document_number, legal_entity_id, event_date, currency, transaction_currency,
  leg, role, stream, event_order, field, row_count,
  CASE WHEN by_family THEN coalesce(product_family, '') ELSE '' END AS product_family,
  CASE WHEN by_tax THEN coalesce(tax_code, '') ELSE '' END AS tax_code,
  CAST(signed AS DECIMAL(18, 4)) AS signed, CAST(transaction_signed AS DECIMAL(18, 4)) AS transaction_signed,
  CASE
    WHEN transaction_currency = currency OR transaction_signed = 0 THEN NULL
    WHEN leg > 100 OR (settles AND is_converted) THEN settled_rate
    ELSE used_rate
  END AS rate,
  CASE
    WHEN transaction_currency = currency OR transaction_signed = 0 THEN NULL
    WHEN leg > 200 THEN 'settled in ' || settled_currency
    WHEN settles AND is_converted THEN settled_rate_source
    ELSE used_source
  END AS rate_source,
  gross, event_currency, held_reason, source, source_id, correlation_id, raw_ref
FROM foreign_leg;

CREATE OR REPLACE TEMP TABLE account_choice AS
WITH wanted AS (
  SELECT DISTINCT legal_entity_id, role, product_family, tax_code, transaction_currency, event_date FROM raw_leg
  WHERE role IS NOT NULL AND (signed <> 0 OR transaction_signed <> 0)
), candidate AS (
  SELECT
    w.*,
    a.account,
    (a.legal_entity_id <> '*')::INT * 16 + (a.product_family <> '*')::INT * 8
      + (a.tax_code <> '*')::INT * 4 + (a.currency <> '*')::INT * 2 AS precision
  FROM wanted AS w
  JOIN account_map AS a
    ON a.role = w.role
    AND a.legal_entity_id IN ('*', w.legal_entity_id)
    AND a.product_family IN ('*', w.product_family)
    AND a.tax_code IN ('*', w.tax_code)
    AND a.currency IN ('*', w.transaction_currency)
    AND a.valid_from <= w.event_date AND (a.valid_to IS NULL OR w.event_date < a.valid_to)
), best AS (
  SELECT * FROM candidate
  QUALIFY precision = max(precision) OVER (
    PARTITION BY legal_entity_id, role, product_family, tax_code, transaction_currency, event_date)
)
SELECT
  legal_entity_id, role, product_family, tax_code, transaction_currency, event_date,
  min(account) AS account, count(DISTINCT account) AS choices
FROM best GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE unbalanced AS
SELECT event_id, event_date FROM raw_leg GROUP BY event_id, event_date HAVING sum(signed) <> 0
UNION
SELECT event_id, event_date FROM raw_leg
GROUP BY event_id, event_date, transaction_currency HAVING sum(transaction_signed) <> 0;

CREATE OR REPLACE TEMP TABLE mapped_leg AS
SELECT
  l.*,
  c.account,
  coalesce(
    l.held_reason,
    CASE
      WHEN l.role IS NULL THEN 'no posting rule for event ' || l.event_type
      WHEN l.signed IS NULL THEN 'no exchange rate of ' || l.transaction_currency || ' to ' || l.currency
      WHEN l.signed = 0 AND l.transaction_signed = 0 THEN NULL
      WHEN c.account IS NULL THEN 'no account for role ' || l.role
        || CASE WHEN l.product_family <> '' THEN ', product family ' || l.product_family ELSE '' END
        || CASE WHEN l.tax_code <> '' THEN ', tax code ' || l.tax_code ELSE '' END
        || ', currency ' || l.transaction_currency
      WHEN c.choices > 1 THEN 'more than one account fits role ' || l.role || ', currency ' || l.transaction_currency
    END,
    CASE WHEN u.event_id IS NOT NULL THEN 'the event does not balance' END
  ) AS reason
FROM raw_leg AS l
LEFT JOIN unbalanced AS u ON u.event_id = l.event_id AND u.event_date = l.event_date
LEFT JOIN account_choice AS c
  ON c.legal_entity_id = l.legal_entity_id AND c.role = l.role AND c.product_family = l.product_family
  AND c.tax_code = l.tax_code AND c.transaction_currency = l.transaction_currency AND c.event_date = l.event_date;

CREATE OR REPLACE TEMP TABLE waiting AS
SELECT legal_entity_id, document_id, event_date, min(reason) AS reason
FROM mapped_leg WHERE reason IS NOT NULL GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE held AS
SELECT
  m.event_id, m.event_type, m.legal_entity_id, m.event_date, any_value(m.document_number) AS document_number,
  coalesce(min(m.reason), 'another line of the document waits: ' || any_value(w.reason)) AS reason,
  any_value(m.gross) AS amount, m.event_currency AS currency,
  any_value(m.source) AS source, any_value(m.source_id) AS source_id, any_value(m.raw_ref) AS raw_ref,
  'waiting' AS state, coalesce(min(m.reason), any_value(w.reason)) AS cause
FROM mapped_leg AS m
JOIN waiting AS w USING (legal_entity_id, document_id, event_date)
GROUP BY m.event_id, m.event_type, m.legal_entity_id, m.event_date, m.event_currency;

CREATE OR REPLACE TEMP TABLE leg AS
SELECT m.* FROM mapped_leg AS m
WHERE (m.signed <> 0 OR m.transaction_signed <> 0)
  AND NOT EXISTS (
    SELECT 1 FROM waiting AS w
    WHERE w.legal_entity_id = m.legal_entity_id AND w.document_id = m.document_id AND w.event_date = m.event_date
  );
