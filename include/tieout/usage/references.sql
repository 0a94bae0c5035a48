-- What events are judged and placed by.
CREATE OR REPLACE TEMP VIEW deliveries AS
SELECT
  coalesce(source, '') AS source, event_id, coalesce(source_id, event_id) AS source_id, coalesce(raw_ref, '') AS raw_ref,
  subscription_source_id, meter, unit, quantity, value_key, coalesce(kind, 'usage') AS kind, corrects_event_id,
  occurred_at, coalesce(received_at, occurred_at) AS received_at
FROM given_usage_event;

-- An id that two accounts use would make the event's owner a guess.
CREATE OR REPLACE TEMP TABLE subscription_list AS
SELECT
  CAST(row_number() OVER (ORDER BY s.source_id) AS INTEGER) AS subscription_no,
  s.source_id, s.legal_entity_id, s.customer_id, s.start_date, s.ended_at, coalesce(s.zone, e.zone, 'UTC') AS zone,
  coalesce(s.billing_anchor, s.start_date, s.accounting_date) AS anchor,
  -- the interval of meters that no price names: that of the metered prices, else of any
  coalesce(i.metered_months, CASE WHEN i.metered_days IS NULL THEN coalesce(i.months, CASE WHEN i.days IS NULL THEN 1 END) END)
    AS months,
  CASE WHEN i.metered_months IS NULL THEN coalesce(i.metered_days, CASE WHEN i.months IS NULL THEN i.days END) END AS days
FROM given_subscription AS s
JOIN (SELECT source_id FROM given_subscription GROUP BY source_id HAVING count(*) = 1) AS single
  ON single.source_id = s.source_id
LEFT JOIN (
  SELECT
    source, subscription_source_id, max(interval_months) AS months, max(interval_days) AS days,
    max(CASE WHEN usage_type = 'metered' THEN interval_months END) AS metered_months,
    max(CASE WHEN usage_type = 'metered' THEN interval_days END) AS metered_days
  FROM given_subscription_item
  GROUP BY source, subscription_source_id
) AS i ON i.source IS NOT DISTINCT FROM s.source AND i.subscription_source_id = s.source_id
LEFT JOIN entity_zones AS e ON e.id = s.legal_entity_id;

-- The billing interval of each meter of a subscription, that of its price; where the price took the place of one with
-- another interval, each for its days. Before the first day that is known the first one holds.
CREATE OR REPLACE TEMP TABLE meter_intervals AS
WITH held AS (
  SELECT
    h.subscription_source_id, h.meter, h.interval_months AS months,
    CASE WHEN h.interval_months IS NULL THEN h.interval_days END AS days,
    coalesce(h.valid_from, DATE '0001-01-01') AS first_day, coalesce(h.valid_to, DATE '9999-12-31') AS after_day
  FROM held_price AS h
  JOIN given_subscription AS s ON s.source IS NOT DISTINCT FROM h.source AND s.source_id = h.subscription_source_id
  WHERE h.interval_months > 0 OR h.interval_days > 0
), begun AS (
  SELECT
    b.subscription_source_id, b.meter, b.first_day, h.months, h.days,
    row_number() OVER (
      PARTITION BY b.subscription_source_id, b.meter, b.first_day
      ORDER BY h.first_day DESC, coalesce(h.months, 0) DESC, coalesce(h.days, 0) DESC
    ) AS place
  FROM (SELECT DISTINCT subscription_source_id, meter, first_day FROM held) AS b
  JOIN held AS h
    ON h.subscription_source_id = b.subscription_source_id AND h.meter = b.meter
    AND h.first_day <= b.first_day AND h.after_day > b.first_day
), compared AS (
  SELECT
    *, lag(first_day) OVER (PARTITION BY subscription_source_id, meter ORDER BY first_day) AS day_before,
    lag(months) OVER (PARTITION BY subscription_source_id, meter ORDER BY first_day) AS months_before,
    lag(days) OVER (PARTITION BY subscription_source_id, meter ORDER BY first_day) AS days_before
  FROM begun
  WHERE place = 1
)
SELECT
  subscription_source_id, meter, months, days,
  CASE WHEN day_before IS NULL THEN DATE '0001-01-01' ELSE first_day END AS first_day,
  coalesce(
    lead(first_day) OVER (PARTITION BY subscription_source_id, meter ORDER BY first_day), DATE '9999-12-31'
  ) AS after_day
FROM compared
WHERE day_before IS NULL OR months IS DISTINCT FROM months_before OR days IS DISTINCT FROM days_before;

-- What `meters.yaml` says of a meter goes before what billing's prices say, if they agree on something we sum up by.
CREATE OR REPLACE TEMP TABLE meters AS
SELECT
  CAST(row_number() OVER (ORDER BY m.meter) AS INTEGER) AS meter_no, m.meter, m.unit,
  CASE WHEN c.aggregation IS NOT NULL THEN c.aggregation 
    WHEN m.ways <= 1 AND coalesce(m.aggregation, 'sum') IN ('sum', 'count', 'max', 'last') THEN coalesce(m.aggregation, 'sum') END
    AS aggregation,
  c.percentile
FROM (
  SELECT
    meter, CASE WHEN count(DISTINCT unit) = 1 THEN max(unit) END AS unit,
    count(DISTINCT aggregation) AS ways, max(aggregation) AS aggregation
  FROM (
    SELECT meter, unit, NULL AS aggregation FROM given_product WHERE meter IS NOT NULL
    UNION ALL
    SELECT meter, NULL, aggregation FROM given_subscription_item WHERE meter IS NOT NULL
    UNION ALL
    SELECT meter, NULL, NULL FROM given_former_price WHERE meter IS NOT NULL
  ) AS named
  GROUP BY meter
) AS m
LEFT JOIN configured_meters AS c ON c.meter = m.meter
