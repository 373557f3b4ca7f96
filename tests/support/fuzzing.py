"""Settings and inputs of the fuzz tests. ``MILOZERO_FUZZ=20 pytest -k fuzz`` tries twenty times as many inputs."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from milozero.agents.ppo_config import PPOConfig
from milozero.demonstrations.dataset import ImitationConfig
from milozero.experiment.settings import CommonConfig, EvalConfig, TrainConfig
from milozero.helpers.config.params import declared_settings
from milozero.helpers.errors import MAX_MESSAGE_CHARS
from milozero.tracking.tracker import TrackingConfig

TIMES = float(os.environ.get("MILOZERO_FUZZ", "1"))
CLASSES = (CommonConfig, TrainConfig, EvalConfig, PPOConfig, ImitationConfig, TrackingConfig)
NAMES = sorted({name for cls in CLASSES for name in declared_settings(cls)})

JUNK = (
    "",
    "0",
    "-1",
    "1",
    "2",
    "16",
    "1e6",
    "1e400",
    "9" * 400,
    "9" * 5000,
    "9223372036854775807",
    "9223372036854775808",
    "-0.0",
    "nan",
    "-inf",
    "1_000",
    "0x10",
    "010",
    "1e-320",
    "٣",  # a digit that int() reads
    "²",  # a digit that int() does not
    "mlp_64",
    "mlp_²",
    "mlp_" + "9" * 5000,
    "mlp" + "_1" * 5000,
    "mlp_99999_99999",
    "1:30:00",
    "9" * 400 + "-0",
    "²-²:²",
    "train",
    "eval",
    "ppo",
    "yes",
    "none",
    "~",
    "a\0b",
    "a\nb",
    "a\x1b[2Jb",
    "a\u2028b",
    "\ud800",
    "..",
    ".",
    "/",
    "../x",
    "a/b",
    "x" * 256,
    "y/" * 2000,
    "n" * 100_000,
    "2024-99-99",
    "%s%d{}",
    "--seed",
)
VALUES = st.sampled_from(JUNK) | st.text(max_size=8) | st.integers().map(str) | st.floats().map(str)


def fuzz(examples: int, **options: Any) -> Any:
    """Return the hypothesis settings of a fuzz test: the same inputs each time, more of them on request."""
    defaults = {
        "max_examples": int(examples * TIMES),
        "derandomize": True,
        "database": None,
        "deadline": timedelta(seconds=10),  # a hang
        "suppress_health_check": list(HealthCheck),
    }
    return settings(**(defaults | options))


def tree(folder: Path) -> dict[str, bytes]:
    """Return path → content of everything in a folder."""
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def is_one_line(message: str) -> bool:
    """Return whether a message is a single printable line of limited length."""
    return message.isprintable() and len(message) <= MAX_MESSAGE_CHARS + 10
