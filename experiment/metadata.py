"""The settings of a run, as they were written beside its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_metadata(checkpoints: Path) -> dict[str, Any] | None:
    """Return what an experiment's folder says was run; None where it is not there, or cannot be read."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C: ten times as fast
    try:
        content = yaml.load((checkpoints / "config.yaml").read_text(), loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None
