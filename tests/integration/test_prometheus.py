"""A real Prometheus that scrapes a web server of the tests' own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.api import wait_for
from demo.postgres import free_port
from schema_change.core.surroundings.models import PrometheusCheck
from schema_change.core.surroundings.prometheus import ask
from tests.web import Web, serving

pytestmark = pytest.mark.slow

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - {{job_name: api, static_configs: [{{targets: ["{address}"]}}]}}
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Web]]:
    """The address of Prometheus, and the server whose metrics it scrapes."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed here (apt-get install prometheus)")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    with serving() as web:
        web.answers["/metrics"] = (200, 'api_errors{service="a"} 2\napi_errors{service="b"} 5\n')
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(address=web.url.removeprefix("http://")), encoding="utf-8")
        command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        url = f"http://127.0.0.1:{port}"
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                first = check(url, "api_errors", max=9)
                wait_for(lambda: ask(first).ok or None, 60, "the first scrape")
                yield url, web
            finally:
                process.terminate()


def check(url: str, query: str, **bounds: float) -> PrometheusCheck:
    return PrometheusCheck.model_validate({"url": url, "query": query, **bounds})


@pytest.mark.parametrize(
    ("query", "bounds", "message"),
    [
        ("sum(api_errors)", {"max": 7, "min": 7}, None),
        ("scalar(sum(api_errors))", {"max": 7}, None),
        ("no_such_metric or vector(0)", {"max": 0}, None),
        ("sum by (service) (api_errors)", {"max": 4}, "service=b 5; expected at most 4"),
        ("no_such_metric", {"max": 0}, "the result is empty"),
        ("sum(api_errors) / 0 - sum(api_errors) / 0", {"max": 1}, "nan; expected at most 1"),
        ("sum(", {"max": 0}, "Prometheus refused: invalid parameter"),
        ("api_errors[1m]", {"max": 9}, "no answer that Prometheus would give"),
    ],
)
def test_what_prometheus_says_is_judged(
    prometheus: tuple[str, Web], query: str, bounds: dict[str, float], message: str | None
) -> None:
    found = ask(check(prometheus[0], query, **bounds))
    assert found.ok is (message is None), found.message
    assert (message or "") in found.message


def test_a_metric_that_turns_bad_is_seen(prometheus: tuple[str, Web]) -> None:
    url, web = prometheus
    web.answers["/metrics"] = (200, 'api_errors{service="a"} 90\n')
    wait_for(lambda: not ask(check(url, "max(api_errors)", max=50)).ok or None, 60, "the next scrape")
