"""Checkpoints from Weights & Biases: found, downloaded once, verified, kept in ``data/downloads``."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from milozero.experiment import checkpoint
from milozero.helpers.errors import UserError
from milozero.helpers.logging import logger
from milozero.tracking.names import parse_run_path
from milozero.tracking.wandb import client_settings, has_key

HTTP_TIMEOUT_S = 30  # seconds for each answer of the server


def fetch(run_path: str, iter_num: str, data: Path, *, replace: bool) -> Path:
    """Return the folder that has a run's checkpoint; downloaded, where it is not there yet or `replace` is set.

    Args:
        run_path: user/project/run.
        iter_num: which checkpoint: ``best``, ``last`` or an iteration.
        data: folder in which ``downloads/`` is.
        replace: download it again.

    Raises:
        UserError: where there is no such run or checkpoint, the server does not let this user have it or does not
            answer, or what came is not what was sent for; what was there before stays.
    """
    names = parse_run_path(run_path)
    if not re.fullmatch("best|last|[0-9]{1,18}", iter_num):
        raise UserError(f"--iter_num={iter_num}: best, last, or the number of an iteration")
    folder = data / "downloads" / Path(*names)
    file = folder / checkpoint.file_name(iter_num)
    if file.exists() and not replace and _is_whole(file):
        logger.info(f"downloaded before: {file} (--wandb_download_replace for what the run has now)")
        return folder
    try:
        import wandb

        client = client_settings()
        if not has_key(client.base_url):
            raise UserError("--wandb_run_path needs a key of Weights & Biases: set WANDB_API_KEY, or `wandb login`")
        api = wandb.Api(timeout=HTTP_TIMEOUT_S)
        try:
            run = _run(api, *names)
        except UserError as error:
            raise UserError(f"{error}{_asked_elsewhere(run_path, client)}") from None
        remote = _remote_file(run, file.name, run_path, iter_num)
        _download(remote, file, run_path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
    except Exception as error:  # the client raises what it likes, also what its parser says of nonsense
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--wandb_run_path={run_path}: {reason[:300]}") from None
    return folder


def _is_whole(file: Path) -> bool:
    """Tell whether a checkpoint that was downloaded before can be used; say so where it cannot."""
    try:
        checkpoint.load(file)
    except UserError as error:
        logger.info(f"{error}; it is downloaded again")
        return False
    return True


def _asked_elsewhere(run_path: str, client: Any) -> str:
    """Return a remark where a run was looked for on another server than its address names, else nothing."""
    host = run_path.split("/")[2] if "://" in run_path else ""
    if not host or host in (urlparse(client.base_url).netloc, urlparse(client.app_url).netloc):
        return ""
    return f"; {client.base_url} was asked, the address is of {host} (set WANDB_BASE_URL, or log in there)"


def _run(api: Any, user: str, project: str, name: str) -> Any:
    """Return the run of that id, or else of that name.

    Raises:
        UserError: where there is none, or several.
    """
    import wandb

    try:
        return api.run(f"{user}/{project}/{name}")
    except wandb.errors.CommError as error:
        if "could not find" not in str(error).lower() and "404" not in str(error):
            raise
    try:
        named = list(api.runs(f"{user}/{project}", filters={"display_name": name}))
    except ValueError:
        raise UserError(f"--wandb_run_path: {user} has no project '{project}', or this key may not see it") from None
    if not named:
        raise UserError(f"--wandb_run_path: there is no run '{name}' in {user}/{project}")
    if len(named) > 1:
        ids = ", ".join(run.id for run in named)
        raise UserError(f"--wandb_run_path: several runs are called '{name}'; name one by its id: {ids}")
    return named[0]


def _remote_file(run: Any, name: str, run_path: str, iter_num: str) -> Any:
    """Return a run's checkpoint as the server lists it.

    Raises:
        UserError: where there is none, with what there is.
    """
    files = [file for file in run.files() if file.name.endswith(".pt")]
    named = [file for file in files if file.name.rpartition("/")[2] == name]
    if not named:
        names = {file.name.rpartition("/")[2].removesuffix(".pt").removeprefix("iter_") for file in files}
        raise UserError(
            f"--iter_num={iter_num}: {run_path} has no such checkpoint; it has {', '.join(sorted(names)) or 'none'}"
        )
    # Where somebody put another file of that name there, the experiment's own is in a folder of its name.
    return next((file for file in named if file.name == f"{run.display_name}/{name}"), named[0])


def _download(remote: Any, file: Path, run_path: str) -> None:
    """Download a checkpoint beside its place, verify it, and put it there.

    Raises:
        UserError: where it is not what the server has.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".download-") as folder:
        came = Path(remote.download(root=folder, replace=True).name)
        data = came.read_bytes()
        if len(data) != remote.size or (remote.md5 and base64.b64decode(remote.md5) != hashlib.md5(data).digest()):
            raise UserError(f"{run_path}: {remote.name} came damaged ({len(data)} of {remote.size} bytes); try again")
        try:
            checkpoint.load(came)
        except UserError as error:
            raise UserError(str(error).replace(str(came), f"{run_path}: {remote.name}")) from None
        came.replace(file)
