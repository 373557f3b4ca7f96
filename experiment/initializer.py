"""One training run: its name, its folders, what it goes on from, and a record of what was run."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from milozero import environments
from milozero.experiment import checkpoint
from milozero.experiment.resume import resume_settings
from milozero.experiment.settings import Settings
from milozero.helpers.errors import UserError
from milozero.helpers.files import write_bytes
from milozero.helpers.locks import Lock

if TYPE_CHECKING:
    from milozero.helpers.comm import Comm

NAME_FIRST = (
    "brave",
    "calm",
    "clever",
    "eager",
    "gentle",
    "happy",
    "keen",
    "lively",
    "merry",
    "nimble",
    "quick",
    "wise",
)
NAME_SECOND = ("badger", "crane", "falcon", "fox", "gecko", "hare", "heron", "ibex", "lynx", "otter", "raven", "wolf")


def git_sha() -> str:
    """Return the commit of this program, short; ``nogit`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=7", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "nogit"


class ExperimentInitializer:
    """One training run: its settings, its name, its folders, and what it goes on from.

    A context manager: leaving it releases the lock and closes the log. With ``--resume`` the settings are those of
    the run that is resumed; nothing is written before `create`.

    Raises:
        UserError: where there is nothing to resume, or what is given now contradicts the run's settings.
    """

    def __init__(self, settings: Settings, comm: Comm) -> None:
        train, data = settings.train, Path(settings.common.data_dir)
        self._comm = comm
        self._lock: Lock | None = None  # rank 0's
        self.name = train.uuid
        self.checkpoints = data / "checkpoints" / self.name
        self.logs = data / "logs" / self.name
        self.checkpoint: dict[str, Any] | None = None  # the checkpoint that the run goes on from
        self.best_eval_return = -math.inf  # of the best policy that is kept, however the checkpoints are
        self.warnings: list[str] = []  # on rank 0: what there is to say about resuming
        self._metadata: dict[str, Any] = {}  # of this launch, that are no settings
        self._info: dict[str, Any] = {}
        self._log: logging.Handler | None = None  # rank 0's
        try:
            if train.resume != "no":
                found = comm.broadcast(self._find_checkpoint(train.resume) if comm.rank == 0 else None)
                problem, self.checkpoint, self.best_eval_return = found
                if problem:
                    raise UserError(problem)
            if self.checkpoint is not None:
                settings = resume_settings(settings, self.checkpoint["config"])
        except BaseException:
            self.close()
            raise
        self.settings = settings
        self.seed = settings.common.seed or 0
        self.env_id = settings.train.env_id
        self.run_id = str(self.checkpoint["config"].get("run_id", "")) if self.checkpoint else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock and close the log."""
        if self._log is not None:
            logging.getLogger().removeHandler(self._log)
            with contextlib.suppress(OSError, ValueError):  # a full disk must not change the exit code
                self._log.close()
            self._log = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _find_checkpoint(self, resume: str) -> tuple[str, dict[str, Any] | None, float]:
        """Return a problem or nothing, the newest intact checkpoint or None, and the return of the best policy."""
        nothing = (None, -math.inf)
        if not self.name:
            return "--resume needs --uuid=<experiment>, a folder of data/checkpoints", *nothing
        if not os.path.isdir(self.checkpoints):  # Path.is_dir raises where a parent may not be read
            hint = f"--resume: there is no experiment {self.checkpoints}; --resume=auto would start it"
            return "" if resume == "auto" else hint, *nothing
        try:
            self._lock = Lock(self.checkpoints)
            saved = checkpoint.newest(self.checkpoints, self.warnings.append)
        except UserError as error:
            return str(error), *nothing
        except OSError as error:
            return f"--resume: cannot write to {self.checkpoints}: {error.strerror}", *nothing
        if saved is None and resume != "auto":
            return (
                f"--resume: there are no checkpoints in {self.checkpoints}; --resume=auto would start anew",
                *nothing,
            )
        best = -math.inf
        with contextlib.suppress(UserError, KeyError, TypeError, ValueError, OverflowError):
            best = float(checkpoint.load(self.checkpoints / "best.pt")["counters"]["best_eval_return"])
        return "", saved, best

    @property
    def group(self) -> str:
        """Name without the seed: what runs that differ in nothing else share."""
        return self.name.removesuffix(f".seed{self.seed:02}")

    def create(self, env_id: str, metadata: Mapping[str, Any], info: Mapping[str, Any] | None = None) -> None:
        """Make the folders, write what is run into them, and start ``log.txt`` (on rank 0; collective).

        Args:
            env_id: full, with its version.
            metadata: what else belongs into the record, and changes what is learned or how numbers are rounded.
            info: what belongs into the record and changes nothing.

        Raises:
            UserError: where the experiment exists already, or its folders cannot be written.
        """
        self.env_id = env_id
        self._metadata = self._comm.broadcast({"git_sha": git_sha(), **metadata, **environments.get_versions(env_id)})
        self._info = dict(info or {})
        name = self.name or self._full_name(self._comm.size)
        run_id = self.run_id if re.fullmatch("[0-9a-f]{8}", self.run_id) else secrets.token_hex(4)
        self.name, self.run_id = self._comm.broadcast((name, run_id))
        data = Path(self.settings.common.data_dir)
        self.checkpoints, self.logs = data / "checkpoints" / self.name, data / "logs" / self.name
        problem = self._comm.broadcast(self._create(data) if self._comm.rank == 0 else "")
        if problem:
            raise UserError(problem)

    def _full_name(self, workers: int) -> str:
        chance = random.SystemRandom()
        readable = f"{chance.choice(NAME_FIRST)}_{chance.choice(NAME_SECOND)}_{chance.randrange(1000):03}"
        train, demos = self.settings.train, self.settings.imitation.num_demos
        env = self.env_id.replace("/", "_").replace(":", "_")
        return f"{readable}.{git_sha()}.{env}.{train.algo}.workers{workers}.demos{demos:02}.seed{self.seed:02}"

    def _create(self, data: Path) -> str:
        resume = self.settings.train.resume != "no"
        for folder in (self.checkpoints, self.logs):
            if os.path.exists(folder) and not resume:
                return f"experiment '{self.name}' exists already ({folder}); --resume it, or choose another --uuid"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=resume)
            self.logs.mkdir(parents=True, exist_ok=resume)
            self._lock = self._lock or Lock(self.checkpoints)
            if self.checkpoint is None and set(checkpoint.available(self.checkpoints)) - {"best"}:
                return f"experiment '{self.name}' was started by another process just now; try again"
            checkpoint.remove_leftovers(self.checkpoints)
            self._write_metadata()
            handler = logging.FileHandler(self.logs / "log.txt")
        except OSError as error:
            return f"cannot write to --data_dir={data}: {error.strerror}"
        except UserError as error:
            return str(error)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        self._log = handler
        return ""

    def metadata(self, workers: int) -> dict[str, Any]:
        """Return what was run: every setting, the full environment id, seed, workers, commit and command."""
        flat = self.settings.flat()
        flat |= {"env_id": self.env_id, "seed": self.seed, "uuid": self.name, "num_workers": workers}
        return flat | {"run_id": self.run_id, "command": " ".join(sys.argv)} | self._metadata | self._info

    def differences(self, saved: Mapping[str, Any], workers: int) -> list[str]:
        """Return in what this launch differs from the one that saved a checkpoint, where bits may depend on it."""
        train = self.settings.train  # its length bends its schedules
        length = {"num_timesteps": train.num_timesteps, "num_iters": train.num_iters}
        now, then = (
            {"workers": workers, **length, **self._metadata},
            saved["config"] | {"workers": len(saved["workers"])},
        )
        return [f"{name} {now[name]} (was {then.get(name)})" for name in now if now[name] != then.get(name)]

    def _write_metadata(self) -> None:
        import yaml

        text = yaml.safe_dump(self.metadata(self._comm.size), sort_keys=False)
        for folder in (self.checkpoints, self.logs):
            write_bytes(folder / "config.yaml", text.encode())
