"""What a site's cluster needs said: ``cluster.yaml``.

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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from milozero.helpers.config.task_file import read_bytes
from milozero.helpers.config.values import to_seconds
from milozero.helpers.errors import UserError, did_you_mean
from milozero.studies.calibers import CALIBERS, Caliber

FILE = "cluster.yaml"


@dataclass(frozen=True)
class Cluster:
    """A site."""

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
    """Return what a site's file says; without a path, what ``cluster.yaml`` says if it is there.

    Raises:
        UserError: where the file cannot be read, or something in it is unknown or of the wrong form.
    """
    import yaml

    if not path and not os.path.exists(FILE):
        return Cluster()
    path = path or FILE
    text = read_bytes(path)
    try:
        # BaseLoader leaves text as it stands: YAML would take the time 00:15:00 for the number 900.
        _refuse_twins(yaml.compose(text, Loader=yaml.BaseLoader))
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return _cluster(content or {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _refuse_twins(node: Any) -> None:
    """Refuse a key that stands twice; of two, YAML would take the second."""
    import yaml

    seen: set[Any] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.YAMLError(f"'{key.value}' stands twice")
            seen.add(key.value)
        _refuse_twins(value)


def _cluster(content: Any) -> Cluster:
    names = {field.name for field in dataclasses.fields(Cluster)} - {"calibers"} | {"partitions", "times"}
    values: dict[str, Any] = {}
    for name, value in _mapping("the file", content).items():
        if name not in names:
            raise UserError(f"unknown key '{name}'{did_you_mean(name, names)}")
        if name in ("modules", "options", "commands"):
            values[name] = tuple(_texts(name, value)) if value else ()
        elif name not in ("partitions", "times"):
            values[name] = _text(name, value)
    calibers = dict(CALIBERS)
    for name, value in _of_calibers("partitions", content).items():
        cpu, *gpu = _texts(f"partitions: {name}", value)
        if len(gpu) > 1:
            raise UserError(f"partitions: {name}: one for CPU jobs and one for GPU jobs")
        calibers[name] = dataclasses.replace(calibers[name], cpu=cpu, gpu=(gpu or [cpu])[0])
    for name, value in _of_calibers("times", content).items():
        if not 60 <= to_seconds(time := _text(f"times: {name}", value)) < float("inf"):
            raise UserError(f"times: {name}: {time} is not a time of at least a minute")
        calibers[name] = dataclasses.replace(calibers[name], time=time)
    return Cluster(calibers, **values)


def _of_calibers(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    values = _mapping(name, content.get(name, {}))
    for caliber in values:
        if caliber not in CALIBERS:
            raise UserError(f"{name}: unknown caliber '{caliber}'{did_you_mean(caliber, CALIBERS)}")
    return values


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value in ("", None):
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{name} must hold 'name: value' lines")
    return value


def _texts(name: str, value: Any) -> list[str]:
    texts = [_text(name, one) for one in (value if isinstance(value, list) else [value])]
    if not texts:
        raise UserError(f"{name} is empty")
    return texts


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise UserError(f"{name} must be text on one line")
    return value
