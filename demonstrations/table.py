"""``--task=demos``: a table of demonstrations."""

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
from milozero.helpers.logging import convert_output_errors
from milozero.helpers.progress import with_progress

MAX_ROWS = 60  # of the table; the summary covers all demonstrations
PIPE_WIDTH = 118  # columns, if stdout is not a terminal


@convert_output_errors()
def show(config: ImitationConfig) -> None:
    """Print one row per demonstration and a summary.

    Raises:
        UserError: if the demonstrations do not exist or cannot be read, or stdout cannot be written.
    """
    episodes = read_demos(config.expert_path, config.num_demos, with_progress)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)
    title = Text(config.expert_path)
    table = Table("", "length", "return", "per step", "end", "seed", title=title, title_justify="left")
    for column in table.columns[:4]:
        column.justify = "right"
    metadata = [_read_metadata(episode, config.expert_path) for episode in episodes]
    for number, (episode, entry) in enumerate(zip(episodes[:MAX_ROWS], metadata, strict=False)):
        end = "terminated" if episode.terminated else "time limit" if episode.truncated else "unknown"
        per_step = f"{episode.return_ / len(episode):.3f}"
        cells = (str(number), f"{len(episode):,}", f"{episode.return_:,.1f}", per_step, end)
        table.add_row(*cells, str(entry.get("seed", "")))
    console.print(table)
    if len(episodes) > MAX_ROWS:
        console.print(f"... and {len(episodes) - MAX_ROWS:,} more")
    for name, value in summarize(episodes, metadata).items():
        console.print(f"{name + ':':14} {value}", soft_wrap=True)


def summarize(episodes: Sequence[Episode], metadata: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return name → text of statistics over all episodes and of the distinct values of their `metadata`."""
    returns = np.array([episode.return_ for episode in episodes])
    lengths = np.array([len(episode) for episode in episodes])
    statistics = {
        "episodes": f"{len(episodes):,}, {lengths.sum():,} steps",
        "return": f"{returns.mean():,.1f} ± {returns.std():,.1f}, {returns.min():,.1f} to {returns.max():,.1f}",
        "length": f"{lengths.mean():,.0f}, {lengths.min():,} to {lengths.max():,}",
        "observations": _join_unique(str(episode.obs.shape[1:]) for episode in episodes),
        "actions": _join_unique(str(episode.actions.shape[1:]) for episode in episodes),
    }
    names = dict.fromkeys(name for entry in metadata for name in entry if name != "seed")
    return statistics | {name: _join_unique(str(entry.get(name, "unknown")) for entry in metadata) for name in names}


def _read_metadata(episode: Episode, path: str) -> Mapping[str, Any]:
    try:
        return episode.metadata()
    except Exception as error:  # h5py raises arbitrary exceptions on damaged attributes
        raise UserError(f"{path}: cannot read the metadata of a demonstration: {error}") from None


def _join_unique(values: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(values))
