"""What the methods of a report were trained with, and the best trials of a sweep as task files."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from milozero.agents import AGENTS
from milozero.experiment.resume import default_values
from milozero.helpers.errors import one_line
from milozero.helpers.logging import pluralize
from milozero.helpers.numbers import format_number
from milozero.reports.methods import format_value, method_settings
from milozero.reports.runs import METRICS, Run
from milozero.reports.scores import Row, Study, find_swept_settings, rank_trials
from milozero.studies.job_status import relative

LONGER, BEST_SEEDS = 4, 5  # how many times longer to run a best trial, and with how many seeds
LENGTHS = ("num_timesteps", "num_iters")
MEASUREMENT_SETTINGS = ("eval_frequency", "eval_episodes")  # they do not influence what a run learns
OF_ONE_RUN = ("seed", "uuid", "resume", "data_dir", "config")  # settings that say nothing about a method


@dataclass(frozen=True)
class Recipe:
    """What a method was trained with on an environment."""

    title: str
    command: str  # of its first run, as the settings
    changed: Mapping[str, str]  # settings that differ from the defaults
    settings: Mapping[str, str]  # all settings
    versions: Mapping[str, str]  # of packages, and the device


def list_recipes(study: Study) -> list[Recipe]:
    """Return what each method was trained with on each environment."""
    recipes = []
    for method, env_id in itertools.product(study.methods, study.environments):
        for run in method.runs_on(env_id)[:1]:
            title = f"{method.label} on {env_id}" if len(study.environments) > 1 else method.label
            recipes.append(_describe(title, run))
    return recipes


def list_settings(run: Run) -> dict[str, str]:
    """Return all settings of a run that are not those of this run alone, as text."""
    names = default_values(run.algo) if run.algo in AGENTS else ()
    return {name: format_value(run.config[name]) for name in names if name in run.config and name not in OF_ONE_RUN}


def changed_settings(run: Run) -> dict[str, str]:
    """Return the settings of a run that are not at their defaults, as text."""
    defaults = default_values(run.algo) if run.algo in AGENTS else {}
    return {name: value for name, value in list_settings(run).items() if value != format_value(defaults[name])}


def _describe(title: str, run: Run) -> Recipe:
    versions = {
        name.removesuffix("_version"): format_value(value)
        for name, value in run.config.items()
        if name.endswith("_version") or name in ("device", "compiled")
    }
    command = str(run.config.get("command", ""))
    return Recipe(title, command, changed_settings(run), list_settings(run), versions)


@dataclass(frozen=True)
class BestTrial:
    """The trial of a sweep with the best score on an environment."""

    env_id: str
    suffix: str  # of the task file, after the report's name
    text: str  # of the task file
    command: str  # that runs it longer, with more seeds


def find_best_trials(study: Study, data: Path, report: Path) -> list[BestTrial]:
    """Return the best trial of a sweep on each environment; those of unknown algorithms are omitted.

    Args:
        study: the runs.
        data: their folder.
        report: path of the report without its suffix.
    """
    ranked = [rows for env_id in study.environments if (rows := rank_trials(study, env_id))]
    known = [rows for rows in ranked if rows[0].method.runs[0].algo in AGENTS]
    return [_describe_best(rows, METRICS[study.score_column(rows[0].env_id)], data, report) for rows in known]


def _describe_best(rows: Sequence[Row], metric: str, data: Path, report: Path) -> BestTrial:
    best = rows[0]
    run = best.method.runs_on(best.env_id)[0]
    suffix = f"best.{re.sub('[^A-Za-z0-9_.-]+', '_', best.env_id)}.yaml"
    path = report.with_name(f"{report.name}.{suffix}")
    lengths = {name: value for name in LENGTHS if isinstance(value := run.config.get(name), int)}
    words = ["python", "spawner.py", f"--config={relative(path.absolute())}", f"--env_bundle={best.env_id}"]
    words += [f"--num_seeds={BEST_SEEDS}", f"--prefix={report.name}_best"]
    words += [f"--data_dir={relative(data.absolute())}"] if data.absolute() != Path("data").absolute() else []
    words += ["--set", *(f"{name}={LONGER * value}" for name, value in lengths.items())] if lengths else []
    command = shlex.join(words)
    score = f"final {metric} {format_number(best.iqm)} (IQM, {pluralize(len(best.scores), 'seed')})"
    heading = [f"Trial {run.trial}, the best of {len(rows)} on {best.env_id}: {score}", f"  {command}"]
    settings = _list_task_settings(run, find_swept_settings([row.method for row in rows]))
    text = "".join(f"# {one_line(line)}\n" for line in heading)
    text += yaml.safe_dump({"algo": run.algo} | settings, sort_keys=False, allow_unicode=True)
    return BestTrial(best.env_id, suffix, text, command)


def _list_task_settings(run: Run, swept: Sequence[str]) -> dict[str, Any]:
    """Return the settings that repeat a run: its length, swept ones, and those that are not at their defaults."""
    defaults, names = default_values(run.algo), [*method_settings(run.algo), *MEASUREMENT_SETTINGS]
    values = {name: run.config[name] for name in names if run.config.get(name) is not None}
    always = {*swept, *LENGTHS}
    return {name: value for name, value in values.items() if name in always or value != defaults.get(name)}
