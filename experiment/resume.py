"""Restore settings from a checkpoint's metadata, and check which of them may change when a run resumes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from milozero import environments
from milozero.agents import AGENTS
from milozero.experiment.settings import Settings, config_groups, used_settings
from milozero.experiment.validation import validate
from milozero.helpers.config.params import build
from milozero.helpers.config.values import to_kwargs
from milozero.helpers.errors import UserError


def resume_settings(settings: Settings, metadata: dict[str, Any]) -> Settings:
    """Return the settings of a resumed run: those in its metadata, updated by the ones that were set explicitly.

    Raises:
        UserError: if an explicit setting is immutable and differs from the metadata.
    """
    current = settings.flat()
    if "env_id" in settings.explicit:
        current["env_id"] = environments.resolve(settings.train.env_id)
    for name, saved in find_conflicts(settings, metadata):
        raise UserError(
            f"--{name}={current[name]} conflicts with the resumed run, which has --{name}={saved}; "
            "remove the flag, or start a new run with another --uuid"
        )
    updated = settings.explicit | {"data_dir", "uuid", "resume"}  # the run's folder may have been moved
    return settings_from_metadata(metadata | {name: current[name] for name in updated}, settings.explicit)


def find_conflicts(settings: Settings, metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value in the metadata) of each explicit and immutable setting that differs from the metadata."""
    current, defaults = settings.flat(), default_values(settings.train.algo)
    for name in sorted(settings.explicit & immutable_names(settings)):
        saved = metadata.get(name, defaults[name])  # missing if the setting is newer than the run
        equal = current[name] == saved
        if name == "env_id":
            equal = _find_full_id(current[name]) == _find_full_id(str(saved))
        if name == "env_kwargs":
            equal = to_kwargs(current[name]) == to_kwargs(str(saved))
        if not equal:
            yield name, saved


def _find_full_id(env_id: str) -> str:
    """Return the full id of an environment, or the id itself if its module has not been imported."""
    with contextlib.suppress(UserError):
        return environments.resolve(env_id)
    return env_id


def immutable_names(settings: Settings) -> set[str]:
    """Return the names of the settings that a resumed run cannot change."""
    declared = used_settings("train", settings.train.algo)
    return {name for name, (_, _, param) in declared.items() if not param.mutable_on_resume}


def default_values(algo: str) -> dict[str, Any]:
    """Return name → default of every setting of a training run."""
    return {name: default for name, (_, default, _) in used_settings("train", algo).items()}


def settings_from_metadata(metadata: dict[str, Any], explicit: frozenset[str] = frozenset()) -> Settings:
    """Return the settings of a run from the metadata in its checkpoint; unknown keys are ignored.

    Raises:
        UserError: if the metadata are not those of a valid run.
    """
    algo = metadata.get("algo")
    if not isinstance(algo, str) or algo not in AGENTS:
        raise UserError(f"the checkpoint has the unknown algorithm '{algo}'")
    groups = config_groups("train", algo)
    settings = Settings(
        **{group: build(cls, {}, metadata, "the checkpoint") for group, cls in groups.values()}, explicit=explicit
    )
    validate(settings)
    return settings
