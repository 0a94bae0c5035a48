-- What the ledger should hold less what batches already carry, leg by leg. Both sides inside the same scope.
CREATE OR REPLACE TEMP TABLE due AS
WITH wanted AS (
  SELECT
    legal_entity_id, event_id, event_date, leg, account, role, event_type, product_family, tax_code, currency,
    CAST(signed AS DECIMAL(18, 4)) AS signed, document_number, source, source_id, correlation_id, raw_ref
  FROM leg
), carried AS (
  SELECT
    legal_entity_id, event_id, event_date, leg, account, role, event_type, product_family, tax_code, currency,
    -signed AS signed, document_number, source, source_id, correlation_id, raw_ref
  FROM carried_leg
), either_side AS (
  SELECT * FROM wanted UNION ALL SELECT * FROM carried
)
SELECT
  legal_entity_id, event_id, event_date, leg, account, role, event_type, product_family, tax_code, currency,
  CAST(sum(signed) AS DECIMAL(18, 4)) AS signed,
  max(document_number) AS document_number, max(source) AS source, max(source_id) AS source_id,
  max(correlation_id) AS correlation_id, max(raw_ref) AS raw_ref
FROM either_side
GROUP BY legal_entity_id, event_id, event_date, leg, account, role, event_type, product_family, tax_code, currency
HAVING sum(signed) <> 0;
