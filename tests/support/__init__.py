"""Helpers that tests share: fakes with known answers, programs started as users do, servers on loopback."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
