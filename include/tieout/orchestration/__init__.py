"""Glue to Airflow: what a task runs, with which connection, pool and retries. Only modules here and in `web` import Airflow."""
