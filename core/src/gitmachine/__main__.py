"""``python -m gitmachine`` is the same as ``gitmachine``."""

from __future__ import annotations

import sys

from gitmachine.cli import main

if __name__ == "__main__":
    sys.exit(main())
