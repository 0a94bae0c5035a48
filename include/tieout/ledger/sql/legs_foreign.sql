-- The legs of events in a foreign currency: each in both currencies, what their rates leave in a leg of its own.
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

INSERT INTO raw_leg BY NAME
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
