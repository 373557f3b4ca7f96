"""What demonstrations are there: the table of ``--task=demos``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from milozero.demonstrations.dataset import Episode, ImitationConfig, read_demos
from milozero.helpers.errors import UserError
from milozero.helpers.progress import with_progress

MAX_ROWS = 60  # of a table; what is beyond counts in the summary
PLAIN_WIDTH = 118  # of lines that go to a file


def show(config: ImitationConfig) -> None:
    """Print a row an episode, and what they have in common.

    Raises:
        UserError: where they are not there, or cannot be used.
    """
    episodes = read_demos(config.expert_path, config.num_demos, with_progress)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False)
    title = Text(config.expert_path)
    table = Table("", "length", "return", "per step", "end", "seed", title=title, title_justify="left")
    for column in table.columns[:4]:
        column.justify = "right"
    metadata = [_metadata(episode, config.expert_path) for episode in episodes]
    for number, (episode, known) in enumerate(zip(episodes[:MAX_ROWS], metadata, strict=False)):
        end = "terminated" if episode.terminated else "time limit" if episode.truncated else "not known"
        per_step = f"{episode.return_ / len(episode):.3f}"
        cells = (str(number), f"{len(episode):,}", f"{episode.return_:,.1f}", per_step, end)
        table.add_row(*cells, str(known.get("seed", "")))
    console.print(table)
    if len(episodes) > MAX_ROWS:
        console.print(f"... and {len(episodes) - MAX_ROWS:,} more")
    for name, value in summary(episodes, metadata).items():
        console.print(f"{name + ':':14} {value}", soft_wrap=True)


def summary(episodes: Sequence[Episode], metadata: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return name → value of what is told of all episodes together, and of their `metadata`."""
    returns = np.array([episode.return_ for episode in episodes])
    lengths = np.array([len(episode) for episode in episodes])
    found = {
        "episodes": f"{len(episodes):,}, {lengths.sum():,} steps",
        "return": f"{returns.mean():,.1f} ± {returns.std():,.1f}, {returns.min():,.1f} to {returns.max():,.1f}",
        "length": f"{lengths.mean():,.0f}, {lengths.min():,} to {lengths.max():,}",
        "observations": _listed(str(episode.obs.shape[1:]) for episode in episodes),
        "actions": _listed(str(episode.actions.shape[1:]) for episode in episodes),
    }
    names = dict.fromkeys(name for known in metadata for name in known if name != "seed")
    return found | {name: _listed(str(known.get(name, "not known")) for known in metadata) for name in names}


def _metadata(episode: Episode, path: str) -> Mapping[str, Any]:
    try:
        return episode.metadata()
    except Exception as error:  # whatever damaged attributes make of h5py
        raise UserError(f"{path}: cannot read what a demonstration tells of itself: {error}") from None


def _listed(values: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(values))
