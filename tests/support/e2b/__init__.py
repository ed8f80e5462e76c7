"""An emulator of E2B: control plane, proxy and envd, with real processes; README.md says what it imitates."""

from support.e2b.server import API_KEY, OTHER_KEY, Emulator, serving
from support.e2b.settings import Settings

__all__ = ["API_KEY", "OTHER_KEY", "Emulator", "Settings", "serving"]
