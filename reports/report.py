"""``--task=report``: what became of a study's runs, as a page, a picture or a table; read from their logs alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milozero.helpers.errors import UserError
from milozero.helpers.logging import logger, pluralize
from milozero.helpers.progress import with_progress

if TYPE_CHECKING:
    from milozero.experiment.settings import ReportConfig
    from milozero.reports.runs import Run

FORMATS = ("html", "png", "csv")


def resolve_format(config: ReportConfig) -> str:
    """Return what is to be written.

    Raises:
        UserError: where ``--format`` and the ending of ``--out`` are not of the same kind.
    """
    ending = Path(config.out).suffix.lower().removeprefix(".")
    ending = "html" if ending == "htm" else ending
    if config.format and ending in FORMATS and ending != config.format:
        raise UserError(f"--out={config.out} does not end as --format={config.format} does")
    return config.format or (ending if ending in FORMATS else "html")


def resolve_output(config: ReportConfig, kind: str, data: Path) -> Path:
    """Return the file to write, whose folder is made where it is missing.

    Raises:
        UserError: where no file can be written there.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", config.study)[:100].strip("._") or "report"
    path = Path(config.out or data / "reports" / f"{name}.{kind}")
    try:
        if path.is_dir():
            raise UserError(f"--out={path} is a folder; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def write(config: ReportConfig, data: Path) -> None:
    """Write the report.

    Args:
        config: what of, and where.
        data: the folder with the logs.

    Raises:
        UserError: where there are no such runs, or the file cannot be written; nothing is half-written.
    """
    from milozero.helpers.files import write_bytes
    from milozero.reports.page import RENDERERS
    from milozero.reports.runs import read_runs
    from milozero.reports.scores import build_study

    kind = resolve_format(config)
    study = build_study(read_runs(data, config.study, with_progress))
    content = RENDERERS[kind](study, config.study, data)
    path = resolve_output(config, kind, data)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    logger.info(f"{pluralize(len(study.runs), 'run')}: {summary(study.runs)}")
    for run in study.runs:
        for problem in run.problems:
            logger.warning(f"{run.name}: {problem}")
    logger.info(f"report: {path}")


def summary(runs: Sequence[Run]) -> str:
    """Return how many runs are in which state."""
    return ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).most_common())
