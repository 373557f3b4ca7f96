"""Read the settings that a run saves with its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_metadata(checkpoints: Path) -> dict[str, Any] | None:
    """Return the metadata in a folder of checkpoints; None if it is missing or unreadable."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C, ten times faster
    try:
        content = yaml.load((checkpoints / "config.yaml").read_text(), loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None
