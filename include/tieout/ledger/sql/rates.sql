-- Rates to the entity's functional currency, one per currency and day: a direct quote before an inverted one.
CREATE OR REPLACE TEMP TABLE functional_rate AS
WITH quoted AS (
  SELECT r.currency, r.rate_date, CAST(r.rate AS DECIMAL(28, 12)) AS rate, r.source || ' ' || r.rate_date AS rate_source,
    0 AS inverted, r.source, r.source_id
  FROM fx_rate AS r, run
  WHERE r.to_currency = run.functional AND r.currency <> run.functional AND NOT r.is_deleted AND r.rate > 0
  UNION ALL
  SELECT r.to_currency, r.rate_date, inverted(r.rate), r.source || ' ' || r.rate_date || ', inverted',
    1, r.source, r.source_id
  FROM fx_rate AS r, run
  WHERE r.currency = run.functional AND r.to_currency <> run.functional AND NOT r.is_deleted AND r.rate > 0
)
SELECT currency, rate_date, rate, rate_source FROM quoted
QUALIFY row_number() OVER (PARTITION BY currency, rate_date ORDER BY inverted, source, source_id) = 1;
