-- Departure delays of the flights that left New York City in 2013, for every hour, airline and airport.
-- Run by `make run`, which fills in where the file lies and how fast to replay it.

CREATE TABLE flights (
  sched_dep  TIMESTAMP(3),
  carrier    STRING,
  origin     STRING,
  dep_delay  INT,
  cancelled  BOOLEAN,
  -- The file is in the order of scheduled departures, and up to a few dozen flights share a minute: a second
  -- behind the newest row nothing is missing.
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '1' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/flights.parquet',
  'format' = 'parquet',
  'scan.rate-limit.rows-per-second' = '${RATE}'
);

SELECT
  window_start,
  carrier,
  origin,
  COUNT(*) AS flights,
  ROUND(AVG(CAST(dep_delay AS DOUBLE)), 1) AS mean_delay,
  MAX(dep_delay) AS worst_delay
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, carrier, origin;
