-- Of events that came once and that nothing corrects there is one version, which counts.
CREATE OR REPLACE TEMP VIEW effective AS
SELECT *, CAST(NULL AS TIMESTAMPTZ) AS replaced_at, 0 AS corrected FROM judged WHERE reason_code IS NULL
