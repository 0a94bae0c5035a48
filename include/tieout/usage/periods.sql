-- The billing period that each of `used_days` lies in.
-- Period n begins n intervals after the anchor, on the month's last day where the month is shorter, counted from the
-- anchor each time. Before an anchor that was moved, periods count from the subscription's start and end at the anchor.
CREATE OR REPLACE TEMP TABLE subscription_days AS
SELECT
  subscription_source_id, usage_day, period_start,
  CASE WHEN usage_day < anchor THEN least(period_end, anchor) ELSE period_end END AS period_end
FROM (
  SELECT
    subscription_source_id, usage_day, anchor,
    CAST(base + to_months(CAST(n * months AS INTEGER)) AS DATE) AS period_start,
    CAST(base + to_months(CAST((n + 1) * months AS INTEGER)) AS DATE) AS period_end
  FROM (
    SELECT
      *,
      guess - CASE WHEN CAST(base + to_months(CAST(guess * months AS INTEGER)) AS DATE) > usage_day THEN 1 ELSE 0 END AS n
    FROM (
      -- whole intervals of months between anchor and day; one less where the day comes before the period's first day
      SELECT *, CAST(floor(datediff('month', base, usage_day) / months) AS INTEGER) AS guess
      FROM (
        SELECT
          d.subscription_source_id, d.usage_day, s.anchor, s.months,
          CASE WHEN d.usage_day < s.anchor AND s.start_date < s.anchor THEN s.start_date ELSE s.anchor END AS base
        FROM used_days AS d
        JOIN subscriptions AS s ON s.source_id = d.subscription_source_id
      ) AS based
    ) AS guessed
  ) AS numbered
) AS bounded;
