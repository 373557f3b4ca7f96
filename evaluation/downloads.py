"""Download checkpoints from Weights & Biases to ``data/downloads``, each once, and verify them."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from milozero.experiment import checkpoint
from milozero.experiment.settings import EvalConfig
from milozero.helpers.errors import UserError
from milozero.helpers.logging import logger
from milozero.tracking.names import parse_run_path
from milozero.tracking.wandb import client_settings, has_key

HTTP_TIMEOUT_S = 30  # for each response of the server


def download_checkpoint(config: EvalConfig, data: Path, is_default: bool = False) -> Path:
    """Download a checkpoint of a run to ``downloads/`` in `data` unless it is there already; return its folder.

    If ``iter_num`` `is_default`, the last checkpoint replaces the best one of a run that was not evaluated.

    Raises:
        UserError: if the run or checkpoint does not exist, the server denies access or does not respond, or the
            download is damaged; an earlier download is kept.
    """
    run_path, iter_num = config.wandb_run_path, config.iter_num
    owner_project_run = parse_run_path(run_path)
    if not re.fullmatch("best|last|[0-9]{1,18}", iter_num):
        raise UserError(f"--iter_num={iter_num}: must be best, last or the number of an iteration")
    folder = data / "downloads" / Path(*owner_project_run)
    file = folder / checkpoint.file_name(iter_num)
    if file.exists() and not config.wandb_download_replace and _is_intact(file):
        logger.info(f"using the earlier download {file} (--wandb_download_replace downloads it again)")
        return folder
    try:
        import wandb

        client = client_settings()
        if not has_key(client.base_url):
            raise UserError("--wandb_run_path requires a Weights & Biases key: set WANDB_API_KEY, or `wandb login`")
        api = wandb.Api(timeout=HTTP_TIMEOUT_S)
        try:
            run = _find_run(api, *owner_project_run)
        except UserError as error:
            raise UserError(f"{error}{_server_hint(run_path, client)}") from None
        names = [file.name, "last.pt"] if is_default else [file.name]
        remote = _find_file(run, names, run_path, iter_num)
        _download(remote, folder / Path(remote.name).name, run_path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
    except Exception as error:  # the client raises various types, including parser errors for an invalid response
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--wandb_run_path={run_path}: {reason[:300]}") from None
    return folder


def _is_intact(file: Path) -> bool:
    """Return whether an earlier download can be used; log the reason if not."""
    try:
        checkpoint.load(file)
    except UserError as error:
        logger.info(f"{error}; downloading it again")
        return False
    return True


def _server_hint(run_path: str, client: Any) -> str:
    """Return a hint if the run's URL belongs to another server than the client's; otherwise empty."""
    host = run_path.split("/")[2] if "://" in run_path else ""
    if not host or host in (urlparse(client.base_url).netloc, urlparse(client.app_url).netloc):
        return ""
    return f"; searched {client.base_url}, but the URL belongs to {host} (set WANDB_BASE_URL, or log in there)"


def _find_run(api: Any, user: str, project: str, name: str) -> Any:
    """Return the run with this id, or else with this name."""
    import wandb

    try:
        return api.run(f"{user}/{project}/{name}")
    except wandb.errors.CommError as error:
        if "could not find" not in str(error).lower() and "404" not in str(error):
            raise
    try:
        runs = list(api.runs(f"{user}/{project}", filters={"display_name": name}))
    except ValueError:
        raise UserError(
            f"--wandb_run_path: {user} has no project '{project}', or this key has no access to it"
        ) from None
    if not runs:
        raise UserError(f"--wandb_run_path: there is no run '{name}' in {user}/{project}")
    if len(runs) > 1:
        ids = ", ".join(run.id for run in runs)
        raise UserError(f"--wandb_run_path: several runs are named '{name}'; use one of their ids instead: {ids}")
    return runs[0]


def _find_file(run: Any, accepted: Sequence[str], run_path: str, iter_num: str) -> Any:
    """Return the first of these checkpoints that a run has; if it has none, the UserError lists those it has."""
    files = [file for file in run.files() if file.name.endswith(".pt")]
    by_name = {name: [file for file in files if file.name.rpartition("/")[2] == name] for name in accepted}
    name, candidates = next((item for item in by_name.items() if item[1]), ("", []))
    if not candidates:
        names = {file.name.rpartition("/")[2].removesuffix(".pt").removeprefix("iter_") for file in files}
        raise UserError(
            f"--iter_num={iter_num}: {run_path} has no such checkpoint; it has {', '.join(sorted(names)) or 'none'}"
        )
    # If several files have this name, ours is in a folder named after the experiment.
    return next((file for file in candidates if file.name == f"{run.display_name}/{name}"), candidates[0])


def _download(remote: Any, file: Path, run_path: str) -> None:
    """Download a checkpoint to a temporary folder, verify it, and move it into place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".download-") as folder:
        download = Path(remote.download(root=folder, replace=True).name)
        data = download.read_bytes()
        if len(data) != remote.size or (remote.md5 and base64.b64decode(remote.md5) != hashlib.md5(data).digest()):
            raise UserError(
                f"{run_path}: download of {remote.name} is damaged ({len(data)} of {remote.size} bytes); try again"
            )
        try:
            checkpoint.load(download)
        except UserError as error:
            raise UserError(str(error).replace(str(download), f"{run_path}: {remote.name}")) from None
        download.replace(file)
