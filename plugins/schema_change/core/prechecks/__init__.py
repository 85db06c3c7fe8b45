"""The checks before a change: each passes, warns or fails with the reason and the remedy."""

from schema_change.core.prechecks.model import CheckContext, CheckResult
from schema_change.core.prechecks.run import CHECKS, raise_if_failed, run_checks

__all__ = ["CHECKS", "CheckContext", "CheckResult", "raise_if_failed", "run_checks"]
