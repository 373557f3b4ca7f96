"""Settings of a site's SLURM cluster: ``cluster.yaml``.

    partitions:              # caliber: partition, or one for CPU jobs and one for GPU jobs
      debug: debug-cpu
      short: [cpu, gpu]
    times: {debug: "00:15:00"}
    modules: [GCC/12.3.0, OpenMPI/4.1.5, Python/3.11.3]
    memory: 4G               # of each worker
    constraint: EPYC-7742
    account: my_group
    gpu: --gpus=1            # what a job with cuda: true asks for
    mpi: srun --mpi=pmix     # starts the workers
    options: [--exclude=cpu001]   # of sbatch, as they are
    commands: [ulimit -c 0]       # of the job's shell, before the run

Every key may be left out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from milozero.helpers.config.task_file import read_yaml_lines
from milozero.helpers.config.values import to_seconds
from milozero.helpers.errors import UserError, did_you_mean
from milozero.studies.config import CALIBERS, Caliber

CLUSTER_FILE = "cluster.yaml"
MIN_TIME_LIMIT_S = 60


@dataclass(frozen=True)
class Cluster:
    """Settings of a site; see the module's docstring."""

    calibers: Mapping[str, Caliber] = dataclasses.field(default_factory=lambda: CALIBERS)
    modules: tuple[str, ...] = ()
    memory: str = ""
    constraint: str = ""
    account: str = ""
    gpu: str = "--gpus=1"
    mpi: str = "srun --mpi=pmix"
    options: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def read_cluster(path: str) -> Cluster:
    """Return the settings in a site's file, by default in ``cluster.yaml`` if that exists.

    Raises:
        UserError: if the file cannot be read, or a key or value is invalid.
    """
    if not path and not os.path.exists(CLUSTER_FILE):
        return Cluster()
    path = path or CLUSTER_FILE
    lines = read_yaml_lines(path)
    try:
        return _parse_cluster(_to_dict(lines))
    except RecursionError:  # an alias within its own anchor
        raise UserError(f"'{path}' is nested too deeply") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _to_dict(lines: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Return the content of (name, value) nodes, scalars as text: YAML would read the time 00:15:00 as 900."""
    values: dict[str, Any] = {}
    for name, value in lines:
        if name.id != "scalar":
            raise UserError("keys must be text")
        if name.value in values:  # YAML would keep the last
            raise UserError(f"duplicate key '{name.value}'")
        values[name.value] = _to_python(value)
    return values


def _to_python(node: Any) -> Any:
    if node.id == "mapping":
        return _to_dict(node.value)
    return [_to_python(item) for item in node.value] if node.id == "sequence" else node.value


def _parse_cluster(settings: Mapping[str, Any]) -> Cluster:
    names = {field.name for field in dataclasses.fields(Cluster)} - {"calibers"} | {"partitions", "times"}
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in names:
            raise UserError(f"unknown key '{name}'{did_you_mean(name, names)}")
        if name in ("modules", "options", "commands"):
            values[name] = tuple(_check_texts(name, value)) if value else ()
        elif name not in ("partitions", "times"):
            values[name] = _check_text(name, value)
    calibers = dict(CALIBERS)
    for name, value in _calibers_section("partitions", settings).items():
        cpu, *gpu = _check_texts(f"partitions: {name}", value)
        if len(gpu) > 1:
            raise UserError(f"partitions: {name}: expected one for CPU jobs and one for GPU jobs")
        calibers[name] = dataclasses.replace(calibers[name], cpu_partition=cpu, gpu_partition=(gpu or [cpu])[0])
    for name, value in _calibers_section("times", settings).items():
        limit = _check_text(f"times: {name}", value)
        if not MIN_TIME_LIMIT_S <= to_seconds(limit) < float("inf"):
            raise UserError(f"times: {name}: {limit} must be at least a minute")
        calibers[name] = dataclasses.replace(calibers[name], time_limit=limit)
    return Cluster(calibers, **values)


def _calibers_section(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    section = settings.get(name, {})
    if section == "":  # the key has no value
        return {}
    if not isinstance(section, dict):
        raise UserError(f"{name} must contain 'name: value' lines")
    for caliber in section:
        if caliber not in CALIBERS:
            raise UserError(f"{name}: unknown caliber '{caliber}'{did_you_mean(caliber, CALIBERS)}")
    return section


def _check_texts(name: str, value: Any) -> list[str]:
    texts = [_check_text(name, item) for item in (value if isinstance(value, list) else [value])]
    if not texts:
        raise UserError(f"{name} is empty")
    return texts


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise UserError(f"{name} must be text on one line")
    return value
