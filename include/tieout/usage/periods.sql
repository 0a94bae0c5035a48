-- The billing period that each of `used_days` lies in, by the interval of its meter.
-- Period n begins n intervals after the anchor, on the month's last day where the month is shorter, counted from the
-- anchor each time. Before an anchor that was moved, periods count from the subscription's start and end at the anchor.
-- A period ends, and the next begins, where the meter's price gives way to one with another interval.
CREATE OR REPLACE TEMP TABLE subscription_days AS
SELECT
  subscription_source_id, meter, usage_day, greatest(period_start, first_day) AS period_start,
  least(CASE WHEN usage_day < anchor THEN least(period_end, anchor) ELSE period_end END, after_day) AS period_end
FROM (
  SELECT
    subscription_source_id, meter, usage_day, anchor, first_day, after_day,
    CASE WHEN days IS NULL THEN CAST(base + to_months(CAST(n * months AS INTEGER)) AS DATE)
      ELSE CAST(base + CAST(n * days AS INTEGER) AS DATE) END AS period_start,
    CASE WHEN days IS NULL THEN CAST(base + to_months(CAST((n + 1) * months AS INTEGER)) AS DATE)
      ELSE CAST(base + CAST((n + 1) * days AS INTEGER) AS DATE) END AS period_end
  FROM (
    SELECT
      *,
      guess - CASE WHEN days IS NULL AND CAST(base + to_months(CAST(guess * months AS INTEGER)) AS DATE) > usage_day
        THEN 1 ELSE 0 END AS n
    FROM (
      -- whole intervals between anchor and day; of months one less where the day comes before the period's first day
      SELECT
        *,
        CASE WHEN days IS NULL THEN CAST(floor(datediff('month', base, usage_day) / months) AS INTEGER)
          ELSE CAST(floor(datediff('day', base, usage_day) / days) AS INTEGER) END AS guess
      FROM (
        SELECT
          d.subscription_source_id, d.meter, d.usage_day, s.anchor,
          CASE WHEN i.meter IS NULL THEN s.months ELSE i.months END AS months,
          CASE WHEN i.meter IS NULL THEN s.days ELSE i.days END AS days,
          coalesce(i.first_day, DATE '0001-01-01') AS first_day, coalesce(i.after_day, DATE '9999-12-31') AS after_day,
          CASE WHEN d.usage_day < s.anchor AND s.start_date < s.anchor THEN s.start_date ELSE s.anchor END AS base
        FROM used_days AS d
        JOIN subscriptions AS s ON s.source_id = d.subscription_source_id
        LEFT JOIN meter_intervals AS i
          ON i.subscription_source_id = d.subscription_source_id AND i.meter = d.meter
          AND i.first_day <= d.usage_day AND i.after_day > d.usage_day
      ) AS based
    ) AS guessed
  ) AS numbered
) AS bounded;
