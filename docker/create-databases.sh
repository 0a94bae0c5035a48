#!/usr/bin/env bash
# Runs once, when PostgreSQL makes its cluster: Airflow's metadata and Tieout's store are two databases of two roles.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  -v airflow_password="$AIRFLOW_DB_PASSWORD" -v tieout_password="$TIEOUT_DB_PASSWORD" <<'SQL'
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE tieout LOGIN PASSWORD :'tieout_password';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE tieout OWNER tieout;
REVOKE ALL ON DATABASE airflow FROM PUBLIC;
REVOKE ALL ON DATABASE tieout FROM PUBLIC;
SQL
