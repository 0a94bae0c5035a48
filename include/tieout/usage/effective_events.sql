-- What each event counts for in the end: repeated deliveries dropped (the first received counts), corrections and voids
-- applied to the event at the root of their chain (the last received counts), faulty events told with their reason.
CREATE OR REPLACE TEMP TABLE suspects AS
  -- candidates by hash, decided by the id itself: exact, without a hash table of every id
  SELECT hash(source, event_id) AS h FROM events GROUP BY 1 HAVING count(*) > 1;

CREATE OR REPLACE TEMP VIEW firsts AS
  SELECT * FROM events e ANTI JOIN suspects s ON s.h = hash(e.source, e.event_id)
  UNION ALL
  SELECT * FROM (
    SELECT * FROM events e SEMI JOIN suspects s ON s.h = hash(e.source, e.event_id)
    QUALIFY row_number() OVER (PARTITION BY source, event_id ORDER BY received_at, occurred_at, quantity, raw_ref) = 1
  );

CREATE OR REPLACE TEMP TABLE judged AS
  SELECT
    e.source, e.event_id, e.source_id, e.raw_ref, e.subscription_source_id, e.meter, e.unit, e.kind,
    e.corrects_event_id, e.quantity, e.occurred_at, e.received_at,
    s.legal_entity_id, s.customer_id, s.anchor, s.months, coalesce(z.zone, 'UTC') AS zone,
    CASE
      WHEN s.source_id IS NULL THEN 'unknown_subscription'
      WHEN m.meter IS NULL THEN 'unknown_meter'
      WHEN m.unit IS NOT NULL AND e.unit IS DISTINCT FROM m.unit THEN 'unknown_unit'
      WHEN e.quantity < 0 THEN 'negative'
      WHEN e.occurred_at > e.received_at + INTERVAL 5 MINUTE THEN 'future'
      WHEN e.kind <> 'usage' AND e.corrects_event_id IS NULL THEN 'missing'
    END AS reason_code
  FROM firsts e
  LEFT JOIN subscriptions s ON s.source_id = e.subscription_source_id
  LEFT JOIN meters m ON m.meter = e.meter
  LEFT JOIN legal_entities z ON z.id = s.legal_entity_id;

CREATE OR REPLACE TEMP TABLE changes AS
  -- a correction of a correction changes the same first event
  WITH RECURSIVE chain AS (
    SELECT source, event_id, corrects_event_id AS root_id, 1 AS depth FROM judged
    WHERE kind <> 'usage' AND reason_code IS NULL
    UNION ALL
    SELECT c.source, c.event_id, j.corrects_event_id, c.depth + 1
    FROM chain c JOIN judged j ON j.source = c.source AND j.event_id = c.root_id
    WHERE j.kind <> 'usage' AND j.reason_code IS NULL AND c.depth < 100
  ), roots AS (
    SELECT source, event_id, arg_max(root_id, depth) AS root_id FROM chain GROUP BY ALL
  )
  SELECT r.source, r.root_id, j.* EXCLUDE (source),
    row_number() OVER (PARTITION BY r.source, r.root_id ORDER BY j.received_at DESC, j.event_id DESC) AS recency
  FROM roots r JOIN judged j ON j.source = r.source AND j.event_id = r.event_id;

CREATE OR REPLACE TEMP TABLE effective AS
  -- an event stays where it happened; its last change says how much it was
  SELECT
    j.subscription_source_id, j.meter, j.unit, j.legal_entity_id, j.customer_id, j.anchor, j.months, j.zone, j.occurred_at,
    coalesce(c.received_at, j.received_at) AS received_at,
    CASE WHEN c.kind IS NULL THEN j.quantity WHEN c.kind = 'correction' THEN c.quantity ELSE 0 END AS quantity,
    CASE WHEN c.kind = 'void' THEN 0 ELSE 1 END AS counts,
    CASE WHEN c.kind IS NULL THEN 0 ELSE 1 END AS corrected
  FROM judged j
  LEFT JOIN changes c ON c.source = j.source AND c.root_id = j.event_id AND c.recency = 1
  WHERE j.kind = 'usage' AND j.reason_code IS NULL
  UNION ALL
  -- a correction whose event never came (or could not be read) stands in for it
  SELECT
    c.subscription_source_id, c.meter, c.unit, c.legal_entity_id, c.customer_id, c.anchor, c.months, c.zone, c.occurred_at,
    c.received_at, c.quantity, 1, 0
  FROM changes c
  ANTI JOIN judged j ON j.source = c.source AND j.event_id = c.root_id AND j.kind = 'usage' AND j.reason_code IS NULL
  WHERE c.recency = 1 AND c.kind = 'correction';
