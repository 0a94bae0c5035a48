-- What the ledger should hold less what batches already carry, leg by leg. Both sides inside the same scope.
CREATE OR REPLACE TEMP TABLE due AS
WITH wanted AS (
  SELECT
    legal_entity_id, event_id, event_date, leg, account, role, event_type, product_family, tax_code, currency,
    transaction_currency, signed, transaction_signed, rate, rate_source, row_count,
    document_number, source, source_id, correlation_id, raw_ref
  FROM leg
), carried AS (
  SELECT
    legal_entity_id, event_id, event_date, leg, account, role, event_type, product_family, tax_code, currency,
    coalesce(transaction_currency, currency) AS transaction_currency,
    -signed AS signed, -coalesce(transaction_signed, signed) AS transaction_signed, rate, rate_source,
    1 AS row_count, document_number, source, source_id, correlation_id, raw_ref
  FROM carried_leg
), either_side AS (
  SELECT *, 'wanted' AS part FROM wanted UNION ALL SELECT *, 'carried' FROM carried
), difference AS (
  SELECT
    legal_entity_id, event_id, event_date, leg, account, role, event_type, product_family, tax_code, currency,
    transaction_currency,
    CAST(sum(signed) AS DECIMAL(18, 4)) AS signed,
    CAST(sum(transaction_signed) AS DECIMAL(18, 4)) AS transaction_signed,
    max(rate) FILTER (part = 'wanted') AS rate, max(rate_source) FILTER (part = 'wanted') AS rate_source,
    max(row_count) AS row_count,
    max(document_number) AS document_number, max(source) AS source, max(source_id) AS source_id,
    max(correlation_id) AS correlation_id, max(raw_ref) AS raw_ref
  FROM either_side
  GROUP BY ALL
  HAVING sum(signed) <> 0 OR sum(transaction_signed) <> 0
), contrary AS (
  -- one currency up, the other down: no ledger has such a line, so the whole leg is taken back and posted anew
  SELECT legal_entity_id, event_id, event_date, leg, account, role, product_family, tax_code, transaction_currency
  FROM difference WHERE sign(signed) * sign(transaction_signed) < 0
)
SELECT * FROM difference
WHERE sign(signed) * sign(transaction_signed) >= 0
UNION ALL BY NAME
SELECT e.* EXCLUDE (part)
FROM either_side AS e
JOIN contrary USING (legal_entity_id, event_id, event_date, leg, account, role, product_family, tax_code, transaction_currency);
