"""Write what checks found as pages: one of our own that needs nothing else, and the library's native site."""

from __future__ import annotations

import datetime as dt
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from upath import UPath

from schema_change.core.validation import translate
from schema_change.core.validation.outcomes import ValidationOutcome
from schema_change.core.validation.suites import Suite

PAGE = "validation.html"
NATIVE_FOLDER = "gx"


def context(site: Path | None = None) -> Any:
    """Return a context that lives in memory, silent and sending nothing; with a site when it is to write pages."""
    import great_expectations as gx  # noqa: PLC0415
    from great_expectations.data_context.types.base import (  # noqa: PLC0415
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"site": _site(site)} if site else {},
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _site(folder: Path) -> dict[str, Any]:
    section = {"view": _view("PageView")}
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_section_builders": {"expectations": section, "validations": section, "profiling": "none"},
        "site_index_builder": {
            "class_name": "DefaultSiteIndexBuilder",
            "show_cta_footer": False,
            "view": _view("IndexView"),
        },
    }


def _view(name: str) -> dict[str, str]:
    return {"module_name": "schema_change.core.validation.expectations.views", "class_name": name}


def write(
    docs: UPath, outcome: ValidationOutcome, natives: Sequence[tuple[Suite, Any]], *, run_name: str, conn_id: str
) -> None:
    """Write ``validation.html`` and ``gx/`` below ``docs``, which may be on any object storage."""
    docs.mkdir(parents=True, exist_ok=True)
    (docs / PAGE).write_text(render(outcome, run_name=run_name, conn_id=conn_id), encoding="utf-8")
    if not natives:
        return
    with tempfile.TemporaryDirectory(prefix="schema_change_gx_") as folder:
        _build_native(Path(folder), natives, run_name)
        # The animations explain the library's interface; they are three quarters of the site's bytes.
        for file in sorted(p for p in Path(folder).rglob("*") if p.is_file() and p.suffix != ".gif"):
            copy = docs / NATIVE_FOLDER / file.relative_to(folder).as_posix()
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())


def render(outcome: ValidationOutcome, *, run_name: str, conn_id: str) -> str:
    """Return one HTML page without links to anything outside of it."""
    environment = Environment(
        loader=PackageLoader("schema_change.core.validation"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["compact"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.get_template(PAGE).render(
        run_name=run_name,
        conn_id=conn_id,
        at=dt.datetime.now(dt.UTC),
        outcomes=outcome.outcomes,
        blocking=outcome.blocking,
        warnings=outcome.warnings,
    )


def _build_native(folder: Path, natives: Sequence[tuple[Suite, Any]], run_name: str) -> None:
    """Let the library write its own pages, from results without values of rows and under names fit for paths."""
    import great_expectations as gx  # noqa: PLC0415
    from great_expectations.core.run_identifier import RunIdentifier  # noqa: PLC0415
    from great_expectations.data_context.types.resource_identifiers import (  # noqa: PLC0415
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    site = context(folder)
    run_id = RunIdentifier(run_name=_fit(run_name), run_time=dt.datetime.now(dt.UTC))
    used: set[str] = set()
    for suite, native in natives:
        name = _fit(suite.name)
        while name in used:
            name += "_"
        used.add(name)
        _scrub(native)
        native.suite_name = name
        native.meta |= {"run_id": run_id, "validation_time": run_id.run_time}
        checks = [r.expectation_config.to_domain_obj() for r in native.results]
        site.suites.add(gx.ExpectationSuite(name, expectations=checks))
        identifier = ExpectationSuiteIdentifier(name=name)
        site.validation_results_store.store_validation_results(
            suite_validation_result=native,
            suite_validation_result_identifier=ValidationResultIdentifier(
                expectation_suite_identifier=identifier, run_id=run_id, batch_identifier=_fit(str(suite.table))
            ),
            expectation_suite_identifier=identifier,
        )
    site.build_data_docs()


def _scrub(native: Any) -> None:
    """Leave no value of a row in a result, and nothing that JSON cannot hold (1.24 returns numpy's booleans)."""
    native.success = bool(native.success)
    for result in native.results:
        result.success = bool(result.success)
        found = result.result or {}
        counts = ("element_count", "unexpected_count", "unexpected_percent")
        kept = {k: found[k] for k in counts} if set(counts) <= set(found) else {}
        if "observed_value" in found:
            kept["observed_value"] = translate.observed(result.expectation_config.type, found["observed_value"])
        result.result = translate.plain(kept)


def _fit(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)
