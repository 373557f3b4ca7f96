"""Metrics to Weights & Biases, offline where there is no key."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class WandbTracker:
    """One W&B run; its files lie under ``data/wandb`` and can be uploaded later with ``wandb sync``.

    A resumed run goes on under the same `run_id`; steps that were logged before it was killed come again, with the
    same values, and W&B passes over them. Training never depends on it: an error switches it off with a line in the
    log.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str,
        name: str,
        group: str,
        config: dict[str, Any],
        data: Path,
        run_id: str | None = None,
    ) -> None:
        import wandb

        online = bool(os.environ.get("WANDB_API_KEY"))
        self._run: Any = None
        try:
            self._run = wandb.init(
                project=project,
                entity=entity or None,
                name=name,
                group=group,
                id=run_id,
                resume="allow" if run_id else None,
                config=config,
                dir=str(data),
                mode=None if online else "offline",
                settings=wandb.Settings(silent=True, console="off", init_timeout=30),
            )
        except Exception as error:  # a tracker must never cost the run
            logger.warning("Weights & Biases is off: %s", " ".join(str(error).split()))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send what was measured."""
        self._try("log", {k: v for k, v in metrics.items() if not math.isnan(v)}, step=step)

    def flush(self) -> None:
        """Leave it to the client, which writes as it goes."""

    def close(self) -> None:
        """Finish the run."""
        self._try("finish")

    def _try(self, method: str, *args: Any, **kwargs: Any) -> None:
        if self._run is None:
            return
        try:
            getattr(self._run, method)(*args, **kwargs)
        except Exception as error:
            self._run = None
            logger.warning("Weights & Biases is off from here on: %s", " ".join(str(error).split()))
