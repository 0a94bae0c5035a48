-- Each event with the rates its legs may need: of its own day, of the day of what it settles or unwinds, and of what
-- arrived in another currency. A rate is the latest up to the day, unless it is older than the entity accepts.
SELECT
  f.* EXCLUDE (legal_entity_id, functional_currency, rate, rate_source, origin_rate, origin_rate_source, settled_rate, settled_rate_source),
  run.entity AS legal_entity_id,
  run.functional AS functional_currency,
  CASE WHEN f.currency = run.functional THEN NULL WHEN date_diff('day', own.rate_date, f.event_date) <= run.rate_days THEN own.rate END AS rate,
  CASE WHEN f.currency <> run.functional THEN own.rate_source END AS rate_source,
  CASE
    WHEN f.currency = run.functional THEN NULL
    WHEN date_diff('day', origin.rate_date, coalesce(f.origin_date, f.event_date)) <= run.rate_days THEN origin.rate
  END AS origin_rate,
  CASE WHEN f.currency <> run.functional THEN origin.rate_source END AS origin_rate_source,
  CASE WHEN date_diff('day', settled.rate_date, f.event_date) <= run.rate_days THEN settled.rate END AS settled_rate,
  settled.rate_source AS settled_rate_source
FROM found AS f
CROSS JOIN run
ASOF LEFT JOIN functional_rate AS own ON own.currency = f.currency AND own.rate_date <= f.event_date
ASOF LEFT JOIN functional_rate AS origin
  ON origin.currency = f.currency AND origin.rate_date <= coalesce(f.origin_date, f.event_date)
ASOF LEFT JOIN functional_rate AS settled
  ON settled.currency = f.settled_currency AND settled.rate_date <= f.event_date
