-- What each event is worth looking at: the first rule it breaks, or none.
CREATE OR REPLACE TEMP VIEW judged AS
SELECT
  e.source, e.event_id, e.source_id, e.raw_ref, e.subscription_source_id, e.meter, e.unit, e.kind, e.corrects_event_id,
  e.quantity, e.value_key, e.occurred_at, e.received_at,
  s.legal_entity_id, s.zone, s.first_offset, s.changes_at, s.then_offset, m.aggregation, s.subscription_no, m.meter_no,
  CASE WHEN m.unit IS NULL THEN e.unit END AS own_unit,
  CASE
    WHEN s.source_id IS NULL THEN 'unknown_subscription'
    WHEN s.zone IS NULL THEN 'unknown_zone'
    WHEN m.meter IS NULL THEN 'unknown_meter'
    WHEN m.aggregation IS NULL THEN 'unclear_aggregation'
    WHEN m.unit IS NOT NULL AND e.unit IS DISTINCT FROM m.unit THEN 'unknown_unit'
    WHEN e.quantity < 0 THEN 'negative'
    WHEN e.occurred_at > e.received_at + INTERVAL 5 MINUTE THEN 'future'
    WHEN e.kind <> 'usage' AND e.corrects_event_id IS NULL THEN 'missing'
    WHEN m.aggregation = 'unique' AND e.value_key IS NULL AND e.kind = 'usage' THEN 'no_value'
  END AS reason_code
FROM firsts AS e
LEFT JOIN subscriptions AS s ON s.source_id = e.subscription_source_id
LEFT JOIN meters AS m ON m.meter = e.meter
