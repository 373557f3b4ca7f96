"""``--task=report``: write a report of a study's runs as HTML, PNG, CSV or JSON, from their logs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from milozero.experiment.settings import ReportConfig
from milozero.helpers.errors import UserError
from milozero.helpers.files import write_bytes
from milozero.helpers.logging import log_result, logger, pluralize
from milozero.reports.formats import RENDERERS
from milozero.reports.runs import read_runs
from milozero.reports.scores import build_study


def resolve_format(config: ReportConfig) -> str:
    """Return the format to write.

    Raises:
        UserError: if ``--format`` contradicts the suffix of ``--out``.
    """
    suffix = Path(config.out).suffix.lower().removeprefix(".")
    suffix = "html" if suffix == "htm" else suffix
    if config.format and suffix in RENDERERS and suffix != config.format:
        raise UserError(f"--out={config.out} contradicts --format={config.format}")
    return config.format or (suffix if suffix in RENDERERS else "html")


def write_report(config: ReportConfig, data: Path) -> None:
    """Write the report on runs in the data folder `data`.

    Raises:
        UserError: if there are no such runs, or the file cannot be written.
    """
    suffix = resolve_format(config)
    study = build_study(read_runs(data, config.study))
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", config.study)[:100].strip("._") or "report"
    path = Path(config.out or data / "reports" / f"{name}.{suffix}")
    try:
        if path.is_dir():
            raise UserError(f"--out={path} is a folder; it must be a file")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    stem = path.with_suffix("") if path.suffix.lower().removeprefix(".") in (suffix, "htm") else path
    content = RENDERERS[suffix](study, config.study, data, stem)
    others = {stem.with_name(f"{stem.name}.{ending}"): text for ending, text in content.items() if ending != suffix}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for each, text in ({path: content[suffix]} | others).items():
            write_bytes(each, text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    states = Counter(run.state for run in study.runs).most_common()
    counts = ", ".join(f"{count} {state}" for state, count in states)
    logger.info(f"{pluralize(len(study.runs), 'run')}: {counts}")
    for run in study.runs:
        for problem in run.problems:
            logger.warning(f"{run.name}: {problem}")
    log_result(f"report: {path}")
    for each in others:
        logger.info(f"        {each}")
