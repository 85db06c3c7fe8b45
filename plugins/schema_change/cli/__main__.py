"""``python -m schema_change.cli``."""

from __future__ import annotations

import sys

from schema_change.cli.main import main

sys.exit(main())
