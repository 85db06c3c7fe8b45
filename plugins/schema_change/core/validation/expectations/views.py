"""The library's pages from templates that are compiled once per machine; the library compiles them for every view.

A site has a view per section, and compiling fifty templates is most of what writing a small site takes.
"""

from __future__ import annotations

from typing import Any

from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import FileSystemBytecodeCache


def _compiled() -> FileSystemBytecodeCache:
    """Return the cache below the temporary folder, which nobody but this user may write to."""
    return FileSystemBytecodeCache(pattern="schema_change_gx_%s.cache")


class PageView(DefaultJinjaPageView):
    """A page of a suite, or of its results."""

    def __init__(self, **folders: Any) -> None:
        super().__init__(**folders)
        self.env.bytecode_cache = _compiled()


class IndexView(DefaultJinjaIndexPageView):
    """The page that lists all others."""

    def __init__(self, **folders: Any) -> None:
        super().__init__(**folders)
        self.env.bytecode_cache = _compiled()
