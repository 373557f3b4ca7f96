"""What tests share: stand-ins with known answers, programs as a user starts them, servers on loopback."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
