"""Register the plugin when the package is not installed but only lies in the plugins folder.

An installed package registers its plugin by entry point. Airflow instantiates every plugin class it sees in a module
of this folder and reports the second of a kind as an error, so this module then has none to show.
"""

from __future__ import annotations

from importlib.metadata import entry_points

if not entry_points(group="airflow.plugins", name="schema_change"):
    from schema_change.plugin import SchemaChangePlugin  # noqa: F401
