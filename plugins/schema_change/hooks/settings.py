"""The provider's section of Airflow's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from airflow.sdk import ObjectStoragePath
from airflow.sdk.configuration import conf, get_sdk_expansion_variables
from upath import UPath

from schema_change.core.errors import ConfigurationError
from schema_change.core.planning.approval import load_approvers

SECTION = "schema_change"


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``[schema_change]`` says; None where it says nothing."""

    changes: Path | None
    expectations: Path | None
    artifacts_url: str
    approvers_file: Path | None
    blackouts_file: Path | None
    scratch_conn_id: str | None
    conn_ids: tuple[str, ...]
    warehouse_conn_id: str | None

    @classmethod
    def read(cls) -> Settings:
        """Read the section."""
        home = Path(get_sdk_expansion_variables()["AIRFLOW_HOME"])
        return cls(
            changes=_path("changes_folder"),
            expectations=_path("expectations_folder"),
            artifacts_url=_option("artifacts_url") or (home / "schema_change").absolute().as_uri(),
            approvers_file=_path("approvers_file"),
            blackouts_file=_path("blackouts_file"),
            scratch_conn_id=_option("scratch_conn_id") or None,
            conn_ids=tuple(name for part in _option("conn_ids").split(",") if (name := part.strip())),
            warehouse_conn_id=_option("warehouse_conn_id") or None,
        )

    @property
    def artifacts(self) -> UPath:
        """Return the artifacts folder; the connection its URL names, if any, is read here."""
        if self.artifacts_url.startswith(("file:", "/")):
            return UPath(self.artifacts_url)
        return cast("UPath", ObjectStoragePath(self.artifacts_url))  # a proxy of a UPath, with Airflow's credentials

    def approvers(self) -> Mapping[str, tuple[str, ...]]:
        """Return role → users from the policy file. Raises ConfigurationError when it is missing or no such map."""
        if self.approvers_file is None:
            return {}
        if not self.approvers_file.is_file():
            # A policy that is not there must not mean that anybody may approve.
            raise ConfigurationError(
                f"the approvers file {self.approvers_file} does not exist", hint=f"see [{SECTION}] approvers_file"
            )
        return load_approvers(self.approvers_file)


def _path(name: str) -> Path | None:
    value = _option(name)
    return Path(value) if value else None


def _option(name: str) -> str:
    # Without the installed provider (the package only lies in the plugins folder) Airflow knows no defaults.
    return str(conf.get(SECTION, name, fallback="") or "")
