"""What the tests of validation share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that the server answered, without catalog look-ups and the snapshot's."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if " FROM " in " ".join(statement.split()) and "pg_" not in statement:
            sent.append(statement % parameters)

    event.listen(sa.Engine, "after_cursor_execute", note)
    yield sent
    event.remove(sa.Engine, "after_cursor_execute", note)
