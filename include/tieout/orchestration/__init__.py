"""Glue to Airflow: what a task runs, with which connection, pool and retries. Only here and in `web` is it imported."""
