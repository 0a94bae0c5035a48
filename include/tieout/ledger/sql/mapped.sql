-- Each leg's GL account. An event whose account is missing or undecided waits, with every other row of its document.
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
