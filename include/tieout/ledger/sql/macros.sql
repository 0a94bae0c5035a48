-- Exact arithmetic in units of 0.0001: the engine's decimal division would give a binary float.
CREATE OR REPLACE TEMP MACRO units(amount) AS CAST(CAST(amount AS DECIMAL(38, 4)) * 10000 AS HUGEINT);

CREATE OR REPLACE TEMP MACRO money(u) AS
  CAST(CAST(u AS DECIMAL(34, 0)) * CAST(0.0001 AS DECIMAL(4, 4)) AS DECIMAL(18, 4));

-- a / b as a whole number of quanta, half away from zero; b and quantum positive
CREATE OR REPLACE TEMP MACRO rounded_ratio(a, b, quantum) AS
  CAST(sign(a) AS HUGEINT) * ((2 * abs(a) + b * quantum) // (2 * b * quantum)) * quantum;

-- a quantity at a unit price: both as exact as their columns, rounded once
CREATE OR REPLACE TEMP MACRO rated(quantity, unit_amount, quantum) AS
  money(rounded_ratio(
    CAST(CAST(quantity AS DECIMAL(28, 6)) * 1000000 AS HUGEINT)
      * CAST(CAST(unit_amount AS DECIMAL(28, 9)) * 1000000000 AS HUGEINT),
    CAST(100000000000 AS HUGEINT), quantum
  ));

-- whole packages of so many units, a broken one rounded up unless the price says down; units where there are none
CREATE OR REPLACE TEMP MACRO packages(quantity, size, way) AS
  CASE WHEN size IS NULL THEN quantity ELSE CAST(
    (CAST(CAST(quantity AS DECIMAL(28, 6)) * 1000000 AS HUGEINT)
      + CASE WHEN way = 'down' THEN 0 ELSE CAST(CAST(size AS DECIMAL(28, 6)) * 1000000 AS HUGEINT) - 1 END)
    // CAST(CAST(size AS DECIMAL(28, 6)) * 1000000 AS HUGEINT) AS DECIMAL(28, 9)) END;

-- what a straight line of `days` days from `start` has earned of `amount` by the end of the date `upto`
CREATE OR REPLACE TEMP MACRO earned(amount, start, days, upto, quantum) AS
  money(rounded_ratio(
    units(amount) * greatest(0, least(CAST(days AS HUGEINT), date_diff('day', start, upto) + 1)), CAST(days AS HUGEINT), quantum
  ));

-- an amount at an exchange rate, rounded once to the quantum of the currency it becomes
CREATE OR REPLACE TEMP MACRO converted(amount, rate, quantum) AS
  money(rounded_ratio(
    units(amount)
      * CAST(CAST(rate AS DECIMAL(24, 12)) * CAST(1000000 AS DECIMAL(7, 0)) * CAST(1000000 AS DECIMAL(7, 0)) AS HUGEINT),
    CAST(1000000000000 AS HUGEINT), quantum
  ));

-- the rate the other way round, to twelve places
CREATE OR REPLACE TEMP MACRO inverted(rate) AS
  CAST(
    (CAST(1000000000000 AS HUGEINT) * 1000000000000 * 10 // CAST(
      CAST(rate AS DECIMAL(24, 12)) * CAST(1000000 AS DECIMAL(7, 0)) * CAST(1000000 AS DECIMAL(7, 0)) AS HUGEINT
    ) + 5) // 10 AS DECIMAL(28, 0)
  ) * CAST(0.000001 AS DECIMAL(6, 6)) * CAST(0.000001 AS DECIMAL(6, 6));

-- an amount's part `part / whole`
CREATE OR REPLACE TEMP MACRO share(amount, part, whole, quantum) AS
  money(rounded_ratio(units(amount) * part, CAST(whole AS HUGEINT), quantum));

-- what is left to release of a line billed ahead after the date `upto`, credit notes over it taken off first
CREATE OR REPLACE TEMP MACRO unreleased(net, credited, start_date, end_date, upto, quantum) AS
  CAST(sign(net) * greatest(0,
    abs(net) - abs(credited) - abs(earned(net, start_date, date_diff('day', start_date, end_date), upto, quantum))
  ) AS DECIMAL(18, 4));

-- a cumulative release in functional currency: when nothing is left, exactly what was deferred less what was unwound
CREATE OR REPLACE TEMP MACRO turned(amount, net, whole, unwound, rate, quantum) AS
  CASE WHEN amount = whole
    THEN converted(net, rate, quantum) - converted(unwound, rate, quantum)
    ELSE converted(amount, rate, quantum)
  END;
