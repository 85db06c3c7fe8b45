from __future__ import annotations

from tests.airflow_home import prepare

prepare()
