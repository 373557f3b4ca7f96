"""What a run was started with, from the record in its folder or checkpoint, and what may change when it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from milozero import environments
from milozero.agents import AGENTS
from milozero.experiment.settings import Settings, check, config_groups
from milozero.helpers.config.params import build, declared_settings, to_kwargs
from milozero.helpers.errors import UserError


def resume_settings(settings: Settings, record: dict[str, Any]) -> Settings:
    """Return the settings of a resumed run: those of its record, but for what is given now and may change.

    Raises:
        UserError: where what is given now contradicts the record; the run would be another one.
    """
    now = settings.flat()
    if "env_id" in settings.explicit:
        now["env_id"] = environments.resolve(settings.train.env_id)
    for name, then in find_conflicts(settings, record):
        raise UserError(
            f"--{name}={now[name]}, but the run that is resumed has {then}; leave it out, "
            f"or start another run with another --uuid"
        )
    here = {
        name: now[name] for name in settings.explicit | {"data_dir", "uuid", "resume"}
    }  # its folder may have moved
    return settings_from_record(record | here, settings.explicit)


def find_conflicts(settings: Settings, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value in the record) of the settings that were given, may not change, and are others there."""
    now, defaults = settings.flat(), default_values(settings.train.algo)
    for name in sorted(settings.explicit & immutable_names(settings)):
        then = record.get(name, defaults[name])  # a setting that is younger than the record
        same = now[name] == then
        if name == "env_id":
            same = environments.resolve(now[name]) == environments.resolve(str(then))
        if name == "env_kwargs":
            same = to_kwargs(now[name]) == to_kwargs(str(then))
        if not same:
            yield name, then


def immutable_names(settings: Settings) -> set[str]:
    """Return the names of the settings that make a run the one it is: resumed with others, it would be another."""
    groups = config_groups("train", settings.train.algo).values()
    return {
        name for _, cls in groups for name, (_, _, d) in declared_settings(cls).items() if not d.mutable_on_resume
    }


def default_values(algo: str) -> dict[str, Any]:
    """Return name → default of every setting of a training run."""
    groups = config_groups("train", algo).values()
    return {name: default for _, cls in groups for name, (_, default, _) in declared_settings(cls).items()}


def settings_from_record(record: dict[str, Any], explicit: frozenset[str] = frozenset()) -> Settings:
    """Return the settings of a run from the record in its checkpoint; keys that no class knows are passed over.

    Raises:
        UserError: where the record does not hold the settings of a run.
    """
    algo = record.get("algo")
    if algo not in AGENTS:
        raise UserError(f"the checkpoint is of algorithm '{algo}', which is not known here")
    groups = config_groups("train", algo)
    settings = Settings(
        **{group: build(cls, {}, record, "the checkpoint") for group, cls in groups.values()}, explicit=explicit
    )
    check(settings)
    return settings
