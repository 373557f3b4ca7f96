"""Methods: what runs have in common that differ only in environment and seed, and what tells methods apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milozero.agents import AGENTS, config_class
from milozero.experiment.resume import default_values
from milozero.experiment.settings import config_groups
from milozero.helpers.config.params import declared_settings
from milozero.helpers.config.values import from_kwargs, to_kwargs
from milozero.helpers.errors import UserError
from milozero.reports.runs import Run

# What a resumed run may be given anew does not make it another one; these do change what it learns.
LENGTHS = ("num_workers", "num_timesteps", "num_iters")
# Which run, where, and how it is measured.
ASIDE = ("env_id", "seed", "eval_episodes")
SHORT = 3  # settings that a label spells out, where the number of a trial would do


@dataclass(frozen=True)
class Method:
    """The runs of one method, on all environments."""

    label: str  # short, for legends
    settings: Mapping[str, Any]  # those in which it differs from the others
    runs: tuple[Run, ...]

    def on(self, env_id: str) -> list[Run]:
        """Return its runs on an environment."""
        return [run for run in self.runs if run.env_id == env_id]

    @property
    def full_label(self) -> str:
        """Its algorithm and all the settings in which it differs."""
        return make_label(self.runs[0].algo, self.settings)


def own_settings(algo: str) -> list[str]:
    """Return the names of the settings that make a run of an algorithm what it is, in the order of ``-h``."""
    groups = config_groups("train", algo if algo in AGENTS else next(iter(AGENTS)))
    aside = {"agent"} if algo not in AGENTS else set()  # of another version: what is known of every algorithm
    if algo in AGENTS and not config_class(algo).LEARNS_FROM_DEMOS:
        aside.add("imitation")
    groups = {title: group for title, group in groups.items() if group[0] not in aside}
    declared = {name: param for _, cls in groups.values() for name, (_, _, param) in declared_settings(cls).items()}
    names = [name for name, param in declared.items() if name in LENGTHS or not param.mutable_on_resume]
    return [name for name in names if name not in (*ASIDE, "algo")]


def setting_value(run: Run, name: str) -> Any:
    """Return a run's setting, as one value where two ways of writing it come to the same."""
    value = run.config.get(name)
    if name not in run.config and run.algo in AGENTS:  # a record older than the setting
        value = default_values(run.algo).get(name)
    if name == "env_kwargs":
        try:
            return from_kwargs(dict(sorted(to_kwargs(str(value)).items())))
        except (UserError, KeyError):
            return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def varying(runs: Sequence[Run]) -> list[str]:
    """Return the settings in which runs of one algorithm differ.

    What differs only from environment to environment, such as a length for each, tells no methods apart.
    """
    names = own_settings(runs[0].algo)
    values: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for run in runs:
        for name in names:
            values[run.env_id, name].add(setting_value(run, name))
    differing = {name for (_, name), seen in values.items() if len(seen) > 1}
    return [name for name in names if name in differing]


def spelled(value: Any) -> str:
    """Return a setting's value as a label shows it."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 1e6):
        return re.sub("e([-+])0*", lambda sign: f"e{sign[1]}".rstrip("+"), f"{value:g}")
    return str(value)


def make_label(algo: str, settings: Mapping[str, Any]) -> str:
    """Return ``algo name=value name=value``."""
    return " ".join([algo, *(f"{name}={spelled(value)}" for name, value in settings.items())])


def group_methods(runs: Sequence[Run]) -> list[Method]:
    """Return the methods among runs whose settings are known, by algorithm and then by their values."""
    by_algo: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_algo[run.algo].append(run)
    return [method for algo in sorted(by_algo) for method in _methods(algo, by_algo[algo])]


def _methods(algo: str, runs: Sequence[Run]) -> Iterator[Method]:
    names = varying(runs)
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(setting_value(run, name) for name in names)].append(run)
    trials = [{run.trial for run in group} for group in groups.values()]
    by_trial = len(names) > SHORT and all(len(t) == 1 for t in trials) and "" not in set.union(*trials)
    by_trial = by_trial and len(set.union(*trials)) == len(groups)
    order = sorted(groups, key=lambda key: [groups[key][0].trial] if by_trial else [_rank(v) for v in key])
    for key in order:
        settings = dict(zip(names, key, strict=True))
        label = f"{algo} trial{groups[key][0].trial}" if by_trial else make_label(algo, settings)
        yield Method(label, settings, tuple(groups[key]))


def _rank(value: Any) -> tuple[bool, float, str]:
    """Return by what values are sorted: numbers by size, and text after them."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, "" if number else str(value))


def environments_of(runs: Sequence[Run]) -> list[str]:
    """Return the environments, sorted, numbers in their names by size."""
    return sorted({run.env_id for run in runs}, key=natural)


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Return by what texts are sorted so that the numbers within count as numbers."""
    parts = re.split("([0-9]+)", text.lower())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]
