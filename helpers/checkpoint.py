"""Checkpoints: one file each, written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from helpers.errors import UserError

VERSION = 1  # of the layout below
PARTS = ("version", "config", "agent", "counters", "random_states")


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write(temporary)`` and move the result to `path`: readers see the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: the file.
        content: ``config`` (what was run), ``agent`` (networks, optimisers, normalisers), ``counters`` and
            ``random_states`` (of every rank, by rank); tensors and plain values only.
    """
    import torch

    write_atomically(path, lambda temporary: torch.save({"version": VERSION, **content}, temporary))


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content. Nothing in the file is run: only tensors and plain values are read.

    Raises:
        UserError: where the file is missing, truncated, not a checkpoint, or of another layout.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except Exception:  # whatever torch and zipfile raise on bytes that are no checkpoint
        raise UserError(f"{path} is damaged or no checkpoint; choose another one with --iter_num") from None
    if not isinstance(content, dict) or any(part not in content for part in PARTS):
        raise UserError(f"{path} is not a checkpoint of this program")
    if content["version"] != VERSION:
        raise UserError(f"{path} has layout {content['version']}; this version reads layout {VERSION}")
    return content


def file_name(iter_num: int | str) -> str:
    """Return the name of the checkpoint of an iteration, of ``best`` or of ``last``."""
    return f"{iter_num}.pt" if iter_num in ("best", "last") else f"iter_{iter_num}.pt"


def available(folder: Path) -> list[str]:
    """Return what ``--iter_num`` may be for a folder of checkpoints: iterations in order, then best, last."""
    names = [match[1] for file in folder.glob("*.pt") if (match := re.fullmatch(r"(?:iter_)?(\w+)\.pt", file.name))]
    return sorted((n for n in names if n.isdigit()), key=int) + sorted(n for n in names if not n.isdigit())


def find(model_path: str, iter_num: str) -> Path:
    """Return the checkpoint file of ``--model_path`` and ``--iter_num``.

    Raises:
        UserError: where it is not there, with what is.
    """
    folder = Path(model_path)
    if not folder.is_dir():
        raise UserError(f"--model_path={model_path}: no such folder; it is data/checkpoints/<experiment>")
    there = available(folder)
    if not there:
        raise UserError(f"--model_path={model_path}: there are no checkpoints in it")
    if iter_num not in there:
        raise UserError(f"--iter_num={iter_num}: no such checkpoint in {model_path}; there are {', '.join(there)}")
    return folder / file_name(iter_num)
