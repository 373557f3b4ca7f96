"""Checkpoints: one file each, written whole or not at all, and known to be whole when it is read."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milozero.helpers.errors import UserError
from milozero.helpers.files import write_bytes

if TYPE_CHECKING:
    from milozero.agents.base import Agent

VERSION = 2  # of the layout below
# part → its type: what was run; networks, optimizers, normalizers; how far the run is; what each worker alone has
PARTS: dict[str, type] = {"config": dict, "agent": dict, "counters": dict, "workers": list}
MARK = b"MiloZero sha256 "  # and the digest of everything before it, at the file's end, where unzipping ignores it
TRAILER = len(MARK) + 64


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote; for the folder's only writer."""
    for file in folder.glob(".*.pt.*"):
        file.unlink()


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """Return a checkpoint as it stands in a file.

    Args:
        content: the `PARTS`; tensors and plain values only.
    """
    import torch

    buffer = io.BytesIO()
    torch.save({"version": VERSION, **content}, buffer)
    data = buffer.getvalue()
    return data + MARK + hashlib.sha256(data).hexdigest().encode()


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, as `write_bytes` does."""
    write_bytes(path, to_bytes(content))


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content. Nothing in the file is run: only tensors and plain values are read.

    Raises:
        UserError: where the file is missing, damaged, not a checkpoint, or of a layout that is not known here.
    """
    import torch

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    trailer = data[-TRAILER:]
    marked = trailer.startswith(MARK)
    if marked:
        data = data[:-TRAILER]
        if hashlib.sha256(data).hexdigest().encode() != trailer[len(MARK) :]:
            raise UserError(f"{path} is damaged: its checksum does not fit")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # whatever torch and zipfile raise on bytes that are no checkpoint
        raise UserError(f"{path} is damaged or no checkpoint") from None
    version = content.get("version") if isinstance(content, dict) else None
    if version == 1:
        with fitting():
            content = _from_version_1(content)
    elif isinstance(version, int) and version > VERSION:
        raise UserError(f"{path} has layout {version}, of a newer MiloZero; this one reads layouts 1 to {VERSION}")
    elif version != VERSION or not marked:
        raise UserError(f"{path} is damaged or no checkpoint")
    whole = all(isinstance(content.get(part), kind) for part, kind in PARTS.items())
    if not whole or type(content["counters"].get("iteration")) is not int:
        raise UserError(f"{path} is not a checkpoint of this program")
    return dict(content)


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of layout 1, which kept nothing of the environments: fit to play, and to go on from."""
    optimizer = content.get("agent", {}).get("optimizer", {})
    optimizer["steps"] = int(optimizer["steps"])  # a tensor of one float, before
    return content | {"version": VERSION, "workers": []}


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """Within this, content that does not fit the agent of its own settings is a `UserError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError, OverflowError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"the checkpoint does not fit its own settings: {message}") from None


def check_fit(found: Any, wanted: Any, where: str = "") -> None:
    """Compare a saved state with one that is known to be right, of other values: nested mappings, lists, tensors.

    Raises:
        ValueError: naming the first place where kinds or sizes differ.
    """
    if type(found) is not type(wanted):
        raise ValueError(f"{where} is of type {type(found).__name__}, not {type(wanted).__name__}")
    if isinstance(wanted, dict):
        if found.keys() != wanted.keys():
            raise ValueError(f"{where} has other parts: {', '.join(map(repr, found.keys() ^ wanted.keys()))}")
        for key, value in wanted.items():
            check_fit(found[key], value, f"{where}/{key}")
    elif isinstance(wanted, list):
        if len(found) != len(wanted):
            raise ValueError(f"{where} is {len(found)} long, not {len(wanted)}")
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            check_fit(one, other, f"{where}/{place}")
    elif hasattr(wanted, "shape") and (found.shape != wanted.shape or found.dtype != wanted.dtype):
        raise ValueError(f"{where} is {tuple(found.shape)} {found.dtype}, not {tuple(wanted.shape)} {wanted.dtype}")


def restore_agent(agent: Agent, state: Any) -> None:
    """Let an agent take over a checkpoint's state.

    Raises:
        UserError: where that is of another one.
    """
    with fitting():
        check_fit(state, agent.state_dict(), "agent")
        agent.load_state_dict(state)


def file_name(iter_num: int | str) -> str:
    """Return the name of the checkpoint of an iteration, of ``best`` or of ``last``."""
    return f"{iter_num}.pt" if iter_num in ("best", "last") else f"iter_{iter_num}.pt"


def available(folder: Path) -> list[str]:
    """Return what ``--iter_num`` may be for a folder of checkpoints: iterations in order, then best, last."""
    pattern = re.compile(r"iter_([0-9]{1,18})\.pt|(best|last)\.pt")
    names = [match[1] or match[2] for file in folder.glob("*.pt") if (match := pattern.fullmatch(file.name))]
    numbers = {name for name in names if name.isdecimal()}
    return sorted(numbers, key=int) + sorted(set(names) - numbers)


def find(model_path: str, iter_num: str, flags: tuple[str, str] = ("model_path", "iter_num")) -> Path:
    """Return the checkpoint file of ``--model_path`` and ``--iter_num``, or of other `flags` that name one.

    Raises:
        UserError: where it is not there, with what is.
    """
    folder = Path(model_path)
    if not os.path.isdir(folder):  # Path.is_dir raises where a parent may not be read
        raise UserError(f"--{flags[0]}={model_path}: no such folder; it is data/checkpoints/<experiment>")
    there = available(folder)
    if not there:
        raise UserError(f"--{flags[0]}={model_path}: there are no checkpoints in it")
    if iter_num not in there:
        raise UserError(f"--{flags[1]}={iter_num}: no such checkpoint in {model_path}; there are {', '.join(there)}")
    return folder / file_name(iter_num)


def newest(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the content of the newest intact checkpoint that a run can go on from; None where there is none at all.

    Args:
        folder: of the checkpoints.
        warn: is told of each damaged one that is passed over.

    Raises:
        UserError: where there are checkpoints and not one is intact.
    """
    there = available(folder)
    found: dict[str, Any] | None = None
    for name in ["last"] * ("last" in there) + [name for name in reversed(there) if name.isdecimal()]:
        # Killed between its two files, a save leaves an iteration's file that is newer than the last one.
        if found is not None and int(name) <= found["counters"]["iteration"]:
            break
        try:
            found = load(folder / file_name(name))
        except UserError as error:
            warn(f"passed over: {error}")
    if found is None and set(there) - {"best"}:
        raise UserError(f"not one of the checkpoints in {folder} is intact")
    return found


def prune(folder: Path, keep: int, iteration: int) -> None:
    """Remove all but the newest `keep` checkpoints up to an iteration; 0 keeps all.

    ``best`` and ``last`` always stay, and so do later ones, from which a resumed run did not go on.
    """
    iterations = [name for name in available(folder) if name.isdecimal() and int(name) <= iteration]
    for name in iterations[:-keep] if keep else []:
        with contextlib.suppress(OSError):  # somebody was quicker, or the next time will do
            (folder / file_name(name)).unlink()
