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
  coalesce(i.metered, i.months, 1) AS months
FROM given_subscription AS s
JOIN (SELECT source_id FROM given_subscription GROUP BY source_id HAVING count(*) = 1) AS single
  ON single.source_id = s.source_id
LEFT JOIN (
  SELECT
    source, subscription_source_id, max(interval_months) AS months,
    max(CASE WHEN usage_type = 'metered' THEN interval_months END) AS metered
  FROM given_subscription_item
  GROUP BY source, subscription_source_id
) AS i ON i.source IS NOT DISTINCT FROM s.source AND i.subscription_source_id = s.source_id
LEFT JOIN entity_zones AS e ON e.id = s.legal_entity_id;

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
  ) AS named
  GROUP BY meter
) AS m
LEFT JOIN configured_meters AS c ON c.meter = m.meter
