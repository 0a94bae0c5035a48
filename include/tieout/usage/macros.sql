-- Exact arithmetic in whole numbers: the engine's decimal division would give a binary float.
CREATE OR REPLACE TEMP MACRO billionths(n) AS CAST(CAST(n AS DECIMAL(28, 9)) * 1000000000 AS HUGEINT);

CREATE OR REPLACE TEMP MACRO trillionths(n) AS CAST(CAST(n AS DECIMAL(28, 12)) * 1000000000000 AS HUGEINT);

-- What a tier or price counts of `units`: each, or whole packages in billionths of a unit (a decimal quotient would be a
-- binary float).
CREATE OR REPLACE TEMP MACRO counted(units, package_size, package_round) AS CAST(CASE
  WHEN package_size IS NULL THEN units
  ELSE (billionths(units) + CASE WHEN package_round = 'up' THEN billionths(package_size) - 1 ELSE 0 END)
    // billionths(package_size)
END AS DECIMAL(28, 9));

-- The share `part / whole` of a fixed amount to twelve places. A cut that leaves a rest never ends in 0 or 5, so that
-- rounding it once more goes where the exact quotient would (ROUND_05UP of the General Decimal Arithmetic
-- Specification).
CREATE OR REPLACE TEMP MACRO prorated(amount, part, whole) AS
  CAST(CAST(
    trillionths(amount) * part // whole
      + CASE WHEN trillionths(amount) * part % whole <> 0 AND (trillionths(amount) * part // whole) % 5 = 0
        THEN sign(trillionths(amount)) ELSE 0 END
  AS DECIMAL(26, 0)) * CAST(0.000000000001 AS DECIMAL(12, 12)) AS DECIMAL(28, 12));

-- each branch cast by itself: a common type of all would keep no places
CREATE OR REPLACE TEMP MACRO at_minor_unit(exact, digits) AS
  CASE digits
    WHEN 0 THEN CAST(round(exact, 0) AS DECIMAL(18, 4))
    WHEN 2 THEN CAST(round(exact, 2) AS DECIMAL(18, 4))
    WHEN 3 THEN CAST(round(exact, 3) AS DECIMAL(18, 4))
    ELSE CAST(round(exact, 4) AS DECIMAL(18, 4))
  END;

-- A number for people: thousands apart, no zeros that say nothing. Formatting 128 bits takes five times as long as 64.
CREATE OR REPLACE TEMP MACRO shown(n) AS
  CASE WHEN n < 0 AND n > -1 THEN '-' ELSE '' END || CASE WHEN abs(n) < 1000000000000000 THEN format('{:,}', CAST(trunc(n) AS BIGINT))
    ELSE format('{:,}', CAST(trunc(n) AS HUGEINT)) END
  || rtrim(CASE WHEN n = trunc(n) THEN '' ELSE '.' || split_part(CAST(n AS VARCHAR), '.', 2) END, '0');
