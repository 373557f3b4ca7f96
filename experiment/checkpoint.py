"""Checkpoints: single files, written atomically and verified by a checksum."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milozero.helpers.comm import launched_rank
from milozero.helpers.config.values import is_plain
from milozero.helpers.errors import UserError
from milozero.helpers.files import read_regular
from milozero.helpers.logging import logger

if TYPE_CHECKING:
    from milozero.agents.base import Agent

LAYOUT_VERSION = 5  # of `PARTS` and what they contain
# part → type: settings; networks, optimizers and normalizers; progress; the state of each worker
PARTS: dict[str, type] = {"config": dict, "agent": dict, "counters": dict, "workers": list}
# Followed by the digest of the file up to here; zip readers ignore trailing bytes.
CHECKSUM_MARK = b"MiloZero sha256 "
NAME_PATTERN = re.compile(r"iter_([0-9]{1,18})\.pt|(best|last)\.pt")
MAX_YAML_DEPTH = 20  # of metadata, which is flat
TRAILER_BYTES = len(CHECKSUM_MARK) + 64


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while writing. No other process may write here."""
    for file in folder.glob(".*.pt.*"):
        file.unlink()


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint file with the `PARTS`; tensors and plain values only."""
    import torch

    buffer = io.BytesIO()
    torch.save({"version": LAYOUT_VERSION, **content}, buffer)
    data = buffer.getvalue()
    return data + CHECKSUM_MARK + hashlib.sha256(data).hexdigest().encode()


def load(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint. Only tensors and plain values are read; no code in the file is executed.

    Raises:
        UserError: if the file is missing, damaged, not a checkpoint, or has an unknown layout.
    """
    import torch

    data = _read_verified(path)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # torch and zipfile raise arbitrary exceptions on invalid bytes
        raise UserError(f"{path} is damaged or not a checkpoint") from None
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise UserError(f"{path} is not a checkpoint of MiloZero")
    if version != LAYOUT_VERSION:
        age = "a newer" if version > LAYOUT_VERSION else "an older"
        raise UserError(f"{path} has layout {version}, of {age} MiloZero; this version reads layout {LAYOUT_VERSION}")
    if not all(isinstance(content.get(part), kind) for part, kind in PARTS.items()) or not _is_plain(content):
        raise UserError(f"{path} is not a checkpoint of MiloZero")
    return dict(content)


def _is_plain(content: dict[str, Any]) -> bool:
    """Return whether the settings are plain values and the iteration a number."""
    iteration = content["counters"].get("iteration")
    valid = type(iteration) is int and 0 <= iteration < 2**63
    return valid and all(isinstance(v, bool | int | float | str | None) for v in content["config"].values())


def _read_verified(path: Path) -> bytes:
    """Return a file's bytes without the checksum, which must match."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    trailer = data[-TRAILER_BYTES:]
    if not trailer.startswith(CHECKSUM_MARK):
        raise UserError(f"{path} is damaged or not a checkpoint")
    data = data[:-TRAILER_BYTES]
    if hashlib.sha256(data).hexdigest().encode() != trailer[len(CHECKSUM_MARK) :]:
        raise UserError(f"{path} is damaged: its checksum does not match")
    return data


@contextlib.contextmanager
def convert_errors() -> Iterator[None]:
    """Convert the errors that inconsistent checkpoints cause into `UserError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError, OverflowError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"the checkpoint does not match its own settings: {message}") from None


def check_structure(state: Any, expected: Any, path: str) -> None:
    """Check that a saved state has the structure of `expected`: nested mappings, lists and tensors.

    Raises:
        ValueError: if a type, key, length, shape or dtype differs; the message names its path.
    """
    if type(state) is not type(expected):
        raise ValueError(f"{path} is of type {type(state).__name__}, not {type(expected).__name__}")
    if isinstance(expected, dict):
        if state.keys() != expected.keys():
            raise ValueError(f"{path} has different keys: {', '.join(map(repr, state.keys() ^ expected.keys()))}")
        for key, value in expected.items():
            check_structure(state[key], value, f"{path}/{key}")
    elif isinstance(expected, list):
        if len(state) != len(expected):
            raise ValueError(f"{path} has length {len(state)}, not {len(expected)}")
        for index, (one, other) in enumerate(zip(state, expected, strict=True)):
            check_structure(one, other, f"{path}/{index}")
    elif hasattr(expected, "shape") and (state.shape != expected.shape or state.dtype != expected.dtype):
        raise ValueError(
            f"{path} is {tuple(state.shape)} {state.dtype}, not {tuple(expected.shape)} {expected.dtype}"
        )


def restore_agent(agent: Agent, state: Any) -> None:
    """Load a checkpoint's state into an agent.

    Raises:
        UserError: if the state belongs to a different agent.
    """
    with convert_errors():
        check_structure(state, agent.state_dict(), "agent")
        agent.load_state_dict(state)


def file_name(iter_num: int | str) -> str:
    """Return the file name of a checkpoint: an iteration, ``best`` or ``last``."""
    return f"{iter_num}.pt" if iter_num in ("best", "last") else f"iter_{iter_num}.pt"


def list_checkpoints(folder: Path) -> list[str]:
    """Return the valid values of ``--iter_num`` for a folder: iterations in order, then best, last."""
    names = [match[1] or match[2] for file in folder.glob("*.pt") if (match := NAME_PATTERN.fullmatch(file.name))]
    numbers = {name for name in names if name.isdecimal()}
    return sorted(numbers, key=int) + sorted(set(names) - numbers)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder has a checkpoint to resume from: any but ``best``."""
    return bool(set(list_checkpoints(folder)) - {"best"})


def find(
    model_path: str, iter_num: str, flags: tuple[str, str] = ("model_path", "iter_num"), *, is_default: bool = False
) -> Path:
    """Return the file of a checkpoint, an iteration, ``best`` or ``last``, in the folder `model_path`.

    `model_path` may also be the file itself. If `iter_num` `is_default`, a folder without it falls back to ``last``.
    Error messages name the `flags` of the folder and the checkpoint.

    Raises:
        UserError: if there is no such checkpoint (the message lists the existing ones), or the two disagree.
    """
    folder = Path(model_path)
    if os.path.isfile(folder) and (match := NAME_PATTERN.fullmatch(folder.name)):
        named = match[1] or match[2]
        if not is_default and iter_num != named:
            raise UserError(f"--{flags[0]}={model_path} and --{flags[1]}={iter_num} name different checkpoints")
        return folder
    if not os.path.isdir(folder):  # Path.is_dir raises if a parent is not readable
        raise UserError(f"--{flags[0]}={model_path}: no such folder; expected data/checkpoints/<experiment>")
    names = list_checkpoints(folder)
    if not names:
        raise UserError(f"--{flags[0]}={model_path}: the folder contains no checkpoints")
    if iter_num not in names and is_default and "last" in names:
        if launched_rank() == 0:
            logger.info(
                f"{model_path} has no {file_name(iter_num)}, because the run was not evaluated: using last.pt"
            )
        iter_num = "last"
    if iter_num not in names:
        raise UserError(f"--{flags[1]}={iter_num}: no such checkpoint in {model_path}; available: {', '.join(names)}")
    return folder / file_name(iter_num)


def run_id(metadata: Mapping[str, Any]) -> str:
    """Return the id of a run; empty if its metadata contain no valid one."""
    value = str(metadata.get("run_id", ""))
    return value if re.fullmatch("[0-9a-f]{8}", value) else ""


def check_same_run(file: Path, metadata: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check that the `metadata` in a file belong to the same run as `own`: same run id, same environment.

    Raises:
        UserError: if they belong to another run: resuming would mix both runs and overwrite one of them.
    """
    here, there = ((run_id(each), str(each.get("env_id", ""))) for each in (own, metadata))
    if any(one and other and one != other for one, other in zip(here, there, strict=True)):
        this, other = (f"{env_id or 'unknown environment'}, run {run or '?'}" for run, env_id in (here, there))
        raise UserError(
            f"{file} belongs to another run ({other}) than its folder ({this}); move one of them elsewhere"
        )


def load_newest(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the content of the newest intact checkpoint; None if there are no checkpoints to resume from.

    Calls `warn` with a message for each damaged checkpoint that is skipped.

    Raises:
        UserError: if there are checkpoints, but none can be used, or one of them belongs to another run.
    """
    names = list_checkpoints(folder)
    newest: dict[str, Any] | None = None
    problem, own = "", read_metadata(folder)
    for name in ["last"] * ("last" in names) + [name for name in reversed(names) if name.isdecimal()]:
        # A run that is killed between writing both files leaves an iteration that is newer than `last`.
        if newest is not None and int(name) <= newest["counters"]["iteration"]:
            break
        try:
            content = load(folder / file_name(name))
        except UserError as error:
            problem = str(error)
            warn(f"skipped: {problem}")
            continue
        own = own or content["config"]
        check_same_run(folder / file_name(name), content["config"], own)
        newest = content
    if newest is None and problem:
        raise UserError(f"none of the checkpoints in {folder} can be used: {problem}")
    return newest


def prune(folder: Path, keep: int, iteration: int) -> None:
    """Remove all but the newest `keep` checkpoints up to `iteration`; 0 keeps all.

    Keeps ``best``, ``last`` and later iterations, which remain if a run resumes from an earlier one.
    """
    iterations = [name for name in list_checkpoints(folder) if name.isdecimal() and int(name) <= iteration]
    for name in iterations[:-keep] if keep else []:
        with contextlib.suppress(OSError):  # the next call tries again
            (folder / file_name(name)).unlink()


def read_metadata(checkpoints: Path) -> dict[str, Any] | None:
    """Return the plain values of the metadata in a folder of checkpoints; None if it is missing or unreadable."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C, ten times faster
    depth = 0
    try:
        text = read_regular(checkpoints / "config.yaml").decode()
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH:  # the loader would exhaust the stack
                return None
        content = yaml.load(text, loader)
    except Exception:  # yaml raises arbitrary exceptions on invalid values
        return None
    return {name: value for name, value in content.items() if is_plain(value)} if isinstance(content, dict) else None
