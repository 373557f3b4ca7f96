"""Group runs into methods: runs of a method differ only in environment and seed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milozero.agents import AGENTS, config_class
from milozero.experiment.resume import default_values
from milozero.experiment.settings import config_groups
from milozero.helpers.config.params import declared_settings
from milozero.helpers.config.values import from_kwargs, to_kwargs
from milozero.helpers.errors import UserError
from milozero.reports.runs import Run

# A resumed run may change these, yet they influence what it learns.
LENGTH_SETTINGS = ("num_workers", "num_timesteps", "num_iters")
# These never distinguish methods.
IGNORED_SETTINGS = ("algo", "env_id", "seed", "eval_episodes")
# If methods differ in more settings, trials are labeled by their numbers, and other methods by what is not usual.
MAX_LABEL_SETTINGS = 3


@dataclass(frozen=True)
class Method:
    """The runs of one method, on all environments."""

    label: str  # short, for legends
    settings: Mapping[str, Any]  # the settings in which it differs from other methods of its algorithm
    runs: tuple[Run, ...]

    def runs_on(self, env_id: str) -> list[Run]:
        """Return its runs on an environment."""
        return [run for run in self.runs if run.env_id == env_id]

    @property
    def full_label(self) -> str:
        """The algorithm and all settings in which the method differs from others."""
        return make_label(self.runs[0].algo, self.settings)


def method_settings(algo: str) -> list[str]:
    """Return the names of the settings that influence what a run learns, in the order of ``-h``."""
    known = algo in AGENTS  # runs of another version may have an unknown algorithm
    groups = config_groups("train", algo if known else next(iter(AGENTS)))
    ignored_groups: set[str] = set() if known else {"agent"}
    if known and not config_class(algo).LEARNS_FROM_DEMOS and not hasattr(config_class(algo), "expert_mix"):
        ignored_groups.add("imitation")
    configs = [config for group, config in groups.values() if group not in ignored_groups]
    declared = {name: param for config in configs for name, (_, _, param) in declared_settings(config).items()}
    names = [name for name, param in declared.items() if name in LENGTH_SETTINGS or not param.mutable_on_resume]
    return [name for name in names if name not in IGNORED_SETTINGS]


def get_setting(run: Run, name: str) -> Any:
    """Return a run's setting, normalized so that equal values have the same spelling."""
    value = run.config.get(name)
    if name not in run.config and run.algo in AGENTS:  # the run is older than the setting
        value = default_values(run.algo).get(name)
    if name == "env_kwargs":
        try:
            return from_kwargs(dict(sorted(to_kwargs(str(value)).items())))
        except (UserError, KeyError):
            return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def find_varying_settings(runs: Sequence[Run]) -> list[str]:
    """Return the settings in which runs of one algorithm on the same environment differ.

    Settings that differ only between environments, e.g. the number of steps, do not distinguish methods.
    """
    names = method_settings(runs[0].algo)
    values: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for run in runs:
        for name in names:
            values[run.env_id, name].add(get_setting(run, name))
    varying = {name for (_, name), distinct in values.items() if len(distinct) > 1}
    return [name for name in names if name in varying]


def format_value(value: Any) -> str:
    """Return the value of a setting as shown in labels."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 1e6):
        return re.sub("e([-+])0*", lambda sign: f"e{sign[1]}".rstrip("+"), f"{value:g}")
    return str(value)


def make_label(algo: str, settings: Mapping[str, Any]) -> str:
    """Return ``algo name=value name=value``."""
    return " ".join([algo, *(f"{name}={format_value(value)}" for name, value in settings.items())])


def group_methods(runs: Sequence[Run]) -> list[Method]:
    """Return the methods of runs with readable settings, sorted by algorithm and then by setting values."""
    by_algo: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_algo[run.algo].append(run)
    return [method for algo in sorted(by_algo) for method in _split_methods(algo, by_algo[algo])]


def _split_methods(algo: str, runs: Sequence[Run]) -> Iterator[Method]:
    names = find_varying_settings(runs)
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(get_setting(run, name) for name in names)].append(run)
    trials = [{run.trial for run in group} for group in groups.values()]
    by_trial = len(names) > MAX_LABEL_SETTINGS and all(len(t) == 1 for t in trials) and "" not in set.union(*trials)
    by_trial = by_trial and len(set.union(*trials)) == len(groups)
    order = sorted(groups, key=lambda key: [groups[key][0].trial] if by_trial else [_value_sort_key(v) for v in key])
    usual = _most_common(names, groups) if len(names) > MAX_LABEL_SETTINGS else {}
    for key in order:
        settings = dict(zip(names, key, strict=True))
        named = {name: value for name, value in settings.items() if not usual or value != usual[name]}
        label = f"{algo} trial{groups[key][0].trial}" if by_trial else make_label(algo, named)
        yield Method(label, settings, tuple(groups[key]))


def _most_common(names: Sequence[str], groups: Collection[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the most common value of each setting among methods.

    Labels without these still differ: if two methods differ in a setting, at most one of them has its common value.
    """
    return {
        name: Counter(values).most_common(1)[0][0]
        for name, values in zip(names, zip(*groups, strict=True), strict=True)
    }


def _value_sort_key(value: Any) -> tuple[bool, float, str]:
    """Return a sort key that puts numbers before text, and smaller numbers first."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, "" if number else str(value))


def list_environments(runs: Sequence[Run]) -> list[str]:
    """Return the environments of runs in natural order."""
    return sorted({run.env_id for run in runs}, key=natural_sort_key)


def natural_sort_key(text: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that compares the numbers within texts by value."""
    parts = re.split("([0-9]+)", text.lower())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]
