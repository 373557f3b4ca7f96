"""``--task=list_envs``: the environments of each suite and whether this machine can run them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from milozero.environments import bundles, registry
from milozero.environments.actions import make_converter
from milozero.environments.pool import EnvPoolVector
from milozero.environments.vector import get_time_limit
from milozero.helpers.errors import UserError, did_you_mean
from milozero.helpers.logging import convert_output_errors

PIPE_WIDTH = 200  # columns, if stdout is not a terminal: keeps each row on one line


@dataclass(frozen=True)
class EnvInfo:
    """One row of the table."""

    env_id: str
    observation: str  # size of the observation vector
    action: str
    steps: str  # maximum episode length
    trains_with: str  # simulator in training
    problem: str  # why the environment is unusable on this machine; empty if it is usable


def format_heading(name: str) -> str:
    """Return a suite's name, its description and the versions of its packages."""
    suite: Any = registry.get_suite(name)
    versions = registry.find_versions(*suite.PACKAGES)
    missing = [package for package in suite.PACKAGES if package not in versions]
    not_installed = f"; not installed: {', '.join(missing)} ({suite.INSTALL})" if missing else ""
    installed = ", ".join(map(" ".join, versions.items())) or "nothing"
    description = suite.__doc__.splitlines()[0].rstrip(".").replace("``", "")
    return f"{name}: {description} ({installed}{not_installed})"


def filter_env_ids(name: str, only: str = "") -> list[str]:
    """Return all ids of a suite if its name contains `only`, else the ids that contain it."""
    suite = registry.get_suite(name)
    return [
        env_id
        for env_id in sorted(set(suite.list_env_ids()))
        if registry.find_suite(env_id) is suite and only.lower() in f"{name} {env_id}".lower()
    ]


def inspect_env(env_id: str) -> EnvInfo:
    """Describe an environment by making it."""
    try:
        env = registry.make_env(env_id)
        vector = registry.find_suite(env_id).make_vector(env_id, 1, env, {})
        if vector is not None:
            vector.close()
    except Exception as error:  # a missing simulator raises arbitrary exceptions
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return EnvInfo(env_id, "", "", "", "", " ".join(text.split()))
    simulator = "EnvPool" if isinstance(vector, EnvPoolVector) else "SerialVector"
    max_steps = get_time_limit(env)
    size = (env.observation_space.shape or ())[0]
    info = EnvInfo(env_id, str(size), _format_space(env.action_space), str(max_steps or "–"), simulator, "")
    env.close()
    return info


def _format_space(space: spaces.Space[Any]) -> str:
    if not isinstance(space, spaces.Box):
        return f"{make_converter(space).policy_space.n} discrete"
    low, high = np.unique(space.low), np.unique(space.high)
    bounds = f"[{low[0]:g}, {high[0]:g}]" if len(low) == len(high) == 1 else "individual bounds"
    return f"{space.low.size} in {bounds}"


@convert_output_errors()
def show(only: str = "") -> None:
    """Print a table for each suite, and the bundles.

    Raises:
        UserError: if no suite or id contains `only`, or stdout cannot be written.
    """
    env_ids = {name: filter_env_ids(name, only) for name in registry.SUITES}
    total = sum(map(len, env_ids.values()))
    if not total:
        hint = did_you_mean(only, registry.list_env_ids())
        raise UserError(f"--only={only}: no suite or id contains '{only}'{hint}")
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
    # on a terminal, one console for tables and bar: two would write over each other
    bar_console = console if sys.stdout.isatty() else Console(stderr=True)
    with Progress(console=bar_console, transient=True, disable=not bar_console.is_terminal) as progress:
        task = progress.add_task("checking", total=total)
        for name, members in env_ids.items():
            if not members:
                continue
            _print_line(console, f"[bold]{escape(format_heading(name))}[/bold]")
            infos = []
            for env_id in members:
                progress.update(task, advance=1, description=env_id)
                infos.append(inspect_env(env_id))
            console.print(_make_table(infos))
            for info in infos:
                if info.problem:
                    _print_line(console, escape(f"{info.env_id}: {info.problem}"))
            console.print()
    if not only:
        _print_line(console, "[bold]bundles of environments for studies[/bold]")
        for line in bundles.format_bundles():
            _print_line(console, escape(line))


def _print_line(console: Console, line: str) -> None:
    """Print a line, wrapped between words on a terminal."""
    console.print(line, soft_wrap=not console.is_terminal, highlight=False)


def _make_table(infos: list[EnvInfo]) -> Table:
    """Return a table that fits 80 columns."""
    columns = (Column("id", no_wrap=True), "obs.", Column("action", no_wrap=True), "steps", "trains with", "usable")
    table = Table(*columns, box=None, pad_edge=False)
    for info in infos:
        usable = "no" if info.problem else "yes"
        table.add_row(info.env_id, info.observation, info.action, info.steps, info.trains_with, usable)
    return table
