-- Events as the rules see them: which currency they become, the rates each of their legs may use, and whether an event
-- stands for many (`row_count`).
CREATE OR REPLACE TEMP VIEW seen_event AS
SELECT
  e.*,
  e.currency AS event_currency,
  coalesce(e.functional_currency, e.currency) AS into_currency,
  e.rate AS own_rate, e.rate_source AS own_rate_source,
  e.currency <> coalesce(e.functional_currency, e.currency)
    OR coalesce(e.settled_currency <> e.currency, false) OR e.functional IS NOT NULL AS is_foreign,
  CAST(1 AS BIGINT) AS row_count
FROM within_event AS e;
