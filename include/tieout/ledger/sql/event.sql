-- Events as the rules see them: which currency they become, and the rates each of their legs may use.
SELECT
  e.*,
  e.currency AS event_currency,
  coalesce(e.functional_currency, e.currency) AS into_currency,
  e.rate AS own_rate, e.rate_source AS own_rate_source,
  e.currency <> coalesce(e.functional_currency, e.currency)
    OR coalesce(e.settled_currency <> e.currency, false) AS is_foreign,
  u.quantum
FROM every_event AS e
LEFT JOIN minor_unit AS u ON u.currency = coalesce(e.functional_currency, e.currency)
