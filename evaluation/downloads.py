"""Download checkpoints from Weights & Biases to ``data/downloads``, each once, and verify them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from milozero.experiment import checkpoint
from milozero.experiment.settings import EvalConfig
from milozero.helpers.errors import UserError
from milozero.helpers.locks import Lock, is_held
from milozero.helpers.logging import logger
from milozero.tracking.names import parse_run_path
from milozero.tracking.wandb import client_settings, has_key

HTTP_TIMEOUT_S = 30  # for each response of the server
LOOKUP_TIMEOUT_S = 40.0  # to find the run and its file, in any number of requests
DOWNLOAD_TIMEOUT_S = 20.0  # for the file, plus its size divided by MIN_BYTES_PER_S
MIN_BYTES_PER_S = 100_000  # slower connections time out
MAX_BYTES = 8 * 2**30  # of a checkpoint, whatever size the server declares
CHUNK_BYTES = 2**16


class TimeLimitError(BaseException):
    """The time limit of a block has passed. Not an `Exception`, because the client would catch it and retry."""


@contextlib.contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Raise a `TimeLimitError` if the block takes longer, even if it is waiting. For the main thread only."""

    def stop(*_: object) -> None:
        raise TimeLimitError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again every second, in case the client swallows it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def download_checkpoint(config: EvalConfig, data: Path, is_default: bool = False) -> Path:
    """Download a checkpoint of a run to ``downloads/`` in `data` unless it is there already; return its folder.

    If ``iter_num`` `is_default`, a run without a best checkpoint falls back to its last one.

    Raises:
        UserError: if the run or checkpoint does not exist, the server denies access or does not respond in time, or
            the download is damaged; an earlier download is kept.
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
        with limit_time(LOOKUP_TIMEOUT_S):
            api = wandb.Api(timeout=HTTP_TIMEOUT_S)
            try:
                run = _find_run(api, *owner_project_run)
            except UserError as error:
                raise UserError(f"{error}{_server_hint(run_path, client)}") from None
            names = [file.name, "last.pt"] if is_default else [file.name]
            remote = _find_file(run, names, run_path, iter_num)
        key = api.api_key if _same_server(remote.url, client.base_url) else None
        _download(remote, folder / Path(remote.name).name, run_path, key)
    except UserError:
        raise
    except TimeLimitError:
        raise UserError(f"--wandb_run_path={run_path}: the server took too long; try again") from None
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


def _same_server(url: str, other: str) -> bool:
    """Return whether two URLs point to the same server, the only one that may receive its key."""
    one, two = urlparse(url), urlparse(other)
    return (one.scheme, one.netloc) == (two.scheme, two.netloc)


def _download(remote: Any, file: Path, run_path: str, key: str | None) -> None:
    """Download a checkpoint to a temporary folder, verify it, and move it into place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for leftover in file.parent.glob(".download-*"):
        if not is_held(leftover):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".download-") as folder:
        lock = Lock(Path(folder))
        try:
            download = Path(folder) / file.name
            if remote.size > MAX_BYTES:
                raise UserError(f"{run_path}: {remote.name} has more than {MAX_BYTES >> 30} GiB")
            size = max(0, remote.size)
            with limit_time(DOWNLOAD_TIMEOUT_S + size / MIN_BYTES_PER_S):
                digest = _fetch(remote.url, download, size, key)
            written = download.stat().st_size
            if written != remote.size or (remote.md5 and base64.b64decode(remote.md5) != digest):
                raise UserError(
                    f"{run_path}: download of {remote.name} is damaged ({written} of {remote.size} bytes); try again"
                )
            try:
                checkpoint.load(download)
            except UserError as error:
                raise UserError(str(error).replace(str(download), f"{run_path}: {remote.name}")) from None
            download.replace(file)
        finally:
            lock.release()


def _fetch(url: str, path: Path, size: int, key: str | None) -> bytes:
    """Download a URL to a file, at most one chunk more than `size` bytes; return the MD5 digest.

    The client's own download has no limit.

    Raises:
        UserError: if the server does not send the file.
    """
    import requests

    digest, written = hashlib.md5(), 0
    auth = ("api", key) if key else None  # requests drops it when redirected to another host
    try:
        with requests.get(url, auth=auth, stream=True, timeout=HTTP_TIMEOUT_S) as response, path.open("wb") as file:
            response.raise_for_status()
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                written += len(chunk)
                if written > size:
                    break
    except requests.RequestException as error:  # a subclass of OSError, but not a disk error
        raise UserError(f"the download failed: {' '.join(str(error).split())[:300]}") from None
    return digest.digest()
