#!/usr/bin/env bash
# Runs once, when PostgreSQL makes its cluster: Airflow's metadata and Tieout's store are two databases of two roles.
set -euo pipefail
# psql takes the passwords from its environment: an argument would show in the process list
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv tieout_password TIEOUT_DB_PASSWORD
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE tieout LOGIN PASSWORD :'tieout_password';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE tieout OWNER tieout;
REVOKE ALL ON DATABASE airflow FROM PUBLIC;
REVOKE ALL ON DATABASE tieout FROM PUBLIC;
SQL
