"""``--task=list_envs``: what there is, and what of it can be used here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from milozero import environments
from milozero.environments import bundles
from milozero.environments.pool import Pool
from milozero.helpers.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Row:
    """One environment."""

    env_id: str
    observation: str  # size of the vector
    action: str
    steps: str  # longest episode
    trains_with: str  # what simulates it in training
    problem: str  # why it cannot be used here; nothing where it can


def heading(name: str) -> str:
    """Return a suite's name, what it is and the versions of what simulates it."""
    get_suite: Any = environments.get_suite(name)
    found = environments.installed(*get_suite.PACKAGES)
    missing = [package for package in get_suite.PACKAGES if package not in found]
    absent = f"; not installed: {', '.join(missing)} ({get_suite.INSTALL})" if missing else ""
    told = ", ".join(map(" ".join, found.items())) or "nothing"
    return f"{name}: {get_suite.__doc__.splitlines()[0].rstrip('.')} ({told}{absent})"


def ids(name: str, only: str = "") -> list[str]:
    """Return the ids of a suite, those whose id or suite contains `only`."""
    get_suite = environments.get_suite(name)
    return [
        env_id
        for env_id in sorted(set(get_suite.ids()))
        if environments.suite_for(env_id) is get_suite and only.lower() in f"{name} {env_id}".lower()
    ]


def look(env_id: str) -> Row:
    """Return what an environment is, by making it."""
    try:
        env = environments.make_env(env_id)
        simulator = "EnvPool" if isinstance(_vector(env_id, env), Pool) else "one by one"
    except Exception as error:  # whatever a simulator that is not there raises
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return Row(env_id, "", "", "", "", " ".join(text.split()))
    limit = env.spec.max_episode_steps if env.spec else None
    size = (env.observation_space.shape or ())[0]
    row = Row(env_id, str(size), _told(env.action_space), str(limit or "–"), simulator, "")
    env.close()
    return row


def _vector(env_id: str, env: Any) -> Any:
    vector = environments.suite_for(env_id).make_vector(env_id, 1, env, {})
    vector.close()
    return vector


def _told(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"{space.n} choices"
    assert isinstance(space, spaces.Box)
    low, high = np.unique(space.low), np.unique(space.high)
    bounds = f"[{low[0]:g}, {high[0]:g}]" if len(low) == len(high) == 1 else "own bounds"
    return f"{space.shape[0]} in {bounds}"


def show(only: str = "") -> None:
    """Print a table for each suite, and the bundles.

    Raises:
        UserError: where nothing contains `only`.
    """
    found = {name: ids(name, only) for name in environments.SUITES}
    total = sum(map(len, found.values()))
    if not total:
        raise UserError(f"--only={only}: no suite or id contains it{did_you_mean(only, environments.ids())}")
    console = Console() if sys.stdout.isatty() else Console(width=200)  # a pipe's reader wants whole lines
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("looking", total=total)
        for name, members in found.items():
            if not members:
                continue
            console.print(f"[bold]{escape(heading(name))}[/bold]", soft_wrap=True, highlight=False)
            table = Table(box=None, pad_edge=False)
            table.add_column("id", no_wrap=True)
            for column in ("observation", "action", "steps", "trains with", "usable here"):
                table.add_column(column)
            for env_id in members:
                progress.update(task, advance=1, description=env_id)
                row = look(env_id)
                usable = f"no: {row.problem}" if row.problem else "yes"
                table.add_row(row.env_id, row.observation, row.action, row.steps, row.trains_with, escape(usable))
            console.print(table)
            console.print()
    if not only:
        console.print("[bold]bundles of environments, for studies[/bold]")
        for line in bundles.lines():
            console.print(escape(line), soft_wrap=True, highlight=False)
