-- Exact arithmetic in units of 0.0001: the engine's decimal division would give a binary float.
CREATE OR REPLACE TEMP MACRO units(amount) AS CAST(CAST(amount AS DECIMAL(18, 4)) * 10000 AS HUGEINT);

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

-- what a straight line of `days` days from `start` has earned of `amount` by the end of the date `upto`
CREATE OR REPLACE TEMP MACRO earned(amount, start, days, upto, quantum) AS
  money(rounded_ratio(
    units(amount) * greatest(0, least(CAST(days AS HUGEINT), date_diff('day', start, upto) + 1)), CAST(days AS HUGEINT), quantum
  ));
