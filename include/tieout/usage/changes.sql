-- Corrections and voids by the event at the root of their chain: a correction of a correction changes the same first
-- event. A void of a change takes only that change back (a turn), and a void of that void lets it count again. The second
-- statement follows each chain one hop further, as long as one is left to follow (`open` > 0).
CREATE OR REPLACE TEMP TABLE roots AS
SELECT
  r.source, r.event_id, r.corrects_event_id AS root_id, r.corrects_event_id AS target_id,
  CASE WHEN r.kind = 'void' AND t.event_id IS NOT NULL THEN 1 ELSE 0 END AS is_turn, 0 AS turns_on, 1 AS open
FROM judged AS r
LEFT JOIN (SELECT source, event_id FROM judged WHERE kind <> 'usage' AND reason_code IS NULL) AS t
  ON t.source = r.source AND t.event_id = r.corrects_event_id
WHERE r.kind <> 'usage' AND r.reason_code IS NULL;

CREATE OR REPLACE TEMP TABLE hopped AS
SELECT
  r.source, r.event_id, coalesce(n.root_id, r.root_id) AS root_id, coalesce(m.target_id, r.target_id) AS target_id,
  r.is_turn, CASE WHEN m.event_id IS NULL THEN r.turns_on WHEN m.turns_on = r.turns_on THEN 1 ELSE 0 END AS turns_on,
  CASE WHEN n.root_id IS NULL THEN 0 ELSE 1 END AS open
FROM roots AS r
LEFT JOIN roots AS n ON n.source = r.source AND n.event_id = r.root_id
LEFT JOIN roots AS m ON m.source = r.source AND m.event_id = r.target_id AND m.is_turn = 1 AND r.is_turn = 1;

-- changes that refer to each other in a circle have no first event: each stands by itself
CREATE OR REPLACE TEMP TABLE ordered AS
SELECT
  source, event_id, root_id, target_id, is_turn, turns_on, received_at,
  row_number() OVER (PARTITION BY source, root_id ORDER BY received_at, event_id) AS place,
  max(is_turn) OVER (PARTITION BY source, root_id) AS has_turns
FROM (
  SELECT
    r.source, r.event_id, CASE WHEN r.open = 1 THEN r.event_id ELSE r.root_id END AS root_id, r.target_id,
    CASE WHEN r.open = 1 THEN 0 ELSE r.is_turn END AS is_turn, r.turns_on, j.received_at
  FROM roots AS r
  JOIN judged AS j ON j.source = r.source AND j.event_id = r.event_id
) AS rooted;

-- from when until when a change stands that voids take back or let count again
CREATE OR REPLACE TEMP TABLE spans AS
SELECT source, root_id, own_place, place AS from_place, until_place
FROM (
  SELECT
    source, root_id, place,
    max(own) OVER so_far AS own_place,
    coalesce(max(turn) OVER so_far, 1) AS last_turn,
    lead(place) OVER (PARTITION BY source, root_id, stands_id ORDER BY place) AS until_place
  FROM (
    SELECT
      source, root_id, place, CASE WHEN is_turn = 1 THEN target_id ELSE event_id END AS stands_id,
      CASE WHEN is_turn = 0 THEN place END AS own, CASE WHEN is_turn = 1 THEN 2 * place + turns_on END AS turn
    FROM ordered
    WHERE has_turns = 1
  ) AS told
  WINDOW so_far AS (
    PARTITION BY source, root_id, stands_id ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  )
) AS judged_spans
WHERE own_place IS NOT NULL AND last_turn % 2 = 1;

-- what counts after each change: the last one that stands, or else (no id) the event itself
CREATE OR REPLACE TEMP TABLE states AS
SELECT o.source, o.root_id, o.place, o.received_at, o.event_id FROM ordered AS o WHERE o.has_turns = 0
UNION ALL
SELECT p.source, p.root_id, p.place, p.received_at, w.event_id
FROM (
  SELECT
    place_of.source, place_of.root_id, place_of.place, place_of.received_at, place_of.own_place,
    lag(place_of.own_place) OVER (PARTITION BY place_of.source, place_of.root_id ORDER BY place_of.place) AS before_place
  FROM (
    SELECT o.source, o.root_id, o.place, o.received_at, coalesce(max(s.own_place), 0) AS own_place
    FROM ordered AS o
    LEFT JOIN spans AS s
      ON s.source = o.source AND s.root_id = o.root_id AND s.from_place <= o.place
      AND (s.until_place IS NULL OR s.until_place > o.place)
    WHERE o.has_turns = 1
    GROUP BY o.source, o.root_id, o.place, o.received_at
  ) AS place_of
) AS p
LEFT JOIN ordered AS w ON w.source = p.source AND w.root_id = p.root_id AND w.place = p.own_place
WHERE p.own_place <> coalesce(p.before_place, 0);

CREATE OR REPLACE TEMP TABLE changes AS
SELECT
  s.root_id, s.source, j.event_id, j.subscription_no, j.meter_no, j.zone, j.first_offset, j.changes_at, j.then_offset,
  j.aggregation, j.own_unit, j.occurred_at, j.quantity, j.value_key, coalesce(j.kind, 'usage') AS kind, s.received_at,
  row_number() OVER (PARTITION BY s.source, s.root_id ORDER BY s.place) AS place,
  lead(s.received_at) OVER (PARTITION BY s.source, s.root_id ORDER BY s.place) AS replaced_at
FROM states AS s
LEFT JOIN judged AS j ON j.source = s.source AND j.event_id = s.event_id
