"""Set up an experiment: its name, folders, lock and metadata, and the checkpoint that it resumes from."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
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
from milozero.experiment.status import read_status
from milozero.helpers.errors import UserError
from milozero.helpers.files import write_bytes
from milozero.helpers.locks import Lock
from milozero.tracking.appended import AppendedFile

if TYPE_CHECKING:
    from milozero.helpers.comm import Comm

EDITED = "+"  # marks the commit of code that was edited
# Settings of training, algorithm and imitation that do not affect what is learned.
NO_HYPER_PARAMETERS = {"uuid", "benchmark", "resume", "save_frequency", "keep_checkpoints", "record_frequency"}
NO_HYPER_PARAMETERS |= {"sync_check_frequency", "compile"}
ADJECTIVES = ["bold", "brave", "calm", "clever", "eager", "happy", "keen", "kind", "lively", "merry", "quick", "wise"]
ANIMALS = ["badger", "crane", "falcon", "fox", "gecko", "hare", "heron", "ibex", "lynx", "otter", "raven", "wolf"]


def git_sha() -> str:
    """Return the short commit hash of MiloZero, with ``+`` if files were edited; ``nogit`` outside a repository."""
    describe = ("describe", "--always", "--abbrev=7", "--exclude=*", f"--dirty={EDITED}")
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "nogit"


class LogFileHandler(logging.Handler):
    """Appends log messages to a file.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = AppendedFile(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        self._file.append(f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class ExperimentInitializer:
    """Sets up an experiment: its settings, name and folders, and the checkpoint that it resumes from.

    As a context manager, it releases the lock and closes the log on exit. With ``--resume``, `settings` are those of
    the resumed run. Nothing is written before `create` is called.

    Args:
        settings: from the command line.
        comm: the workers.

    Raises:
        UserError: if there is nothing to resume, or the settings conflict with those of the resumed run.
    """

    def __init__(self, settings: Settings, comm: Comm) -> None:
        train, data = settings.train, Path(settings.common.data_dir)
        self._comm = comm
        self._lock: Lock | None = None  # on rank 0
        self.name = train.uuid
        self.checkpoints = data / "checkpoints" / self.name
        self.logs = data / "logs" / self.name
        self.checkpoint: dict[str, Any] | None = None  # to resume from
        self.best_eval_return = -math.inf  # of best.pt, which may be newer than the checkpoint
        self.run_id = ""  # empty for a new run
        self.warnings: list[str] = []  # about resuming, on rank 0
        self._metadata: dict[str, Any] = {}  # what affects the results in addition to the settings
        self._info: dict[str, Any] = {}  # what does not
        self._log: logging.Handler | None = None  # on rank 0
        try:
            if train.resume != "no":
                found = comm.on_root(lambda: self._find_checkpoint(train.resume))
                self.checkpoint, self.best_eval_return, self.run_id = found
            if self.checkpoint is not None:
                settings = resume_settings(settings, self.checkpoint["config"])
        except BaseException:
            self.close()
            raise
        self.settings = settings
        self.seed = settings.common.seed or 0
        self.env_id = settings.train.env_id

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
        if self._lock is not None:
            self._lock.release()

    def _find_checkpoint(self, resume: str) -> tuple[dict[str, Any] | None, float, str]:
        """Return the newest intact checkpoint or None, the return of the best policy, and the run id or empty."""
        best = -math.inf
        if not self.name:
            raise UserError("--resume needs --uuid=<experiment>, the name of a folder in data/checkpoints")
        if not os.path.isdir(self.checkpoints):  # Path.is_dir raises if a parent is not readable
            if resume == "auto":
                return None, best, ""
            raise UserError(f"--resume: there is no experiment {self.checkpoints}; use --resume=auto to start it")
        try:
            self._lock = Lock(self.checkpoints)
            saved = checkpoint.load_newest(self.checkpoints, self.warnings.append)
        except OSError as error:
            raise UserError(f"--resume: cannot write to {self.checkpoints}: {error.strerror}") from None
        if saved is None and resume != "auto":
            raise UserError(f"--resume: {self.checkpoints} contains no checkpoints; use --resume=auto to start over")
        best_content: dict[str, Any] = {"config": {}}
        with contextlib.suppress(UserError):  # missing or damaged: the next evaluation writes it
            best_content = checkpoint.load(self.checkpoints / "best.pt")
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            best = float(best_content["counters"]["best_eval_return"])
        own = saved["config"] if saved else checkpoint.read_metadata(self.checkpoints) or {}
        checkpoint.check_same_run(self.checkpoints / "best.pt", best_content["config"], own)
        if saved is not None:
            checkpoint.check_same_run(self.logs / "config.yaml", checkpoint.read_metadata(self.logs) or {}, own)
        return saved, best, checkpoint.run_id(own if saved else best_content["config"])

    @property
    def group(self) -> str:
        """The name without the seed, shared by runs that differ only in their seed."""
        return self.name.removesuffix(f".seed{self.seed:02}")

    def create(self, env_id: str, metadata: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Create the folders, write the metadata and start log.txt, on rank 0 (collective).

        Args:
            env_id: full id of the environment, with its version.
            metadata: values that affect the results, in addition to the settings.
            info: other values to record.

        Raises:
            UserError: if the experiment already exists or its folders cannot be written.
        """
        self.env_id = env_id
        self._metadata = self._comm.broadcast({"git_sha": git_sha(), **metadata, **environments.get_versions(env_id)})
        self._info = dict(info)
        name = self.name or self._generate_name()
        run_id = self.run_id or secrets.token_hex(4)
        self.name, self.run_id = self._comm.broadcast((name, run_id))
        data = Path(self.settings.common.data_dir)
        self.checkpoints, self.logs = data / "checkpoints" / self.name, data / "logs" / self.name
        self._comm.on_root(lambda: self._create(data))

    def _generate_name(self) -> str:
        rng = random.SystemRandom()
        readable = f"{rng.choice(ADJECTIVES)}_{rng.choice(ANIMALS)}_{rng.randrange(1000):03}"
        train, demos, workers = self.settings.train, self.settings.imitation.num_demos, self._comm.size
        env = self.env_id.replace("/", "_").replace(":", "_")
        commit = git_sha().removesuffix(EDITED)
        return f"{readable}.{commit}.{env}.{train.algo}.workers{workers}.demos{demos:02}.seed{self.seed:02}"

    def _create(self, data: Path) -> None:
        resume = self.settings.train.resume != "no"
        for folder in (self.checkpoints, self.logs):
            if os.path.exists(folder) and not resume:
                state = read_status(self.logs).get("state", "unknown")
                can_resume = checkpoint.has_checkpoint(self.checkpoints)
                remedy = "add --resume" if can_resume else "it has no checkpoints: add --resume=auto to start over"
                raise UserError(
                    f"experiment '{self.name}' already exists ({folder}, state: {state}); {remedy}, "
                    "or choose another --uuid"
                )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=resume)
            self.logs.mkdir(parents=True, exist_ok=resume)
            self._lock = self._lock or Lock(self.checkpoints)
            if self.checkpoint is None and checkpoint.has_checkpoint(self.checkpoints):
                raise UserError(f"another process has just started experiment '{self.name}'; try again")
            checkpoint.remove_leftovers(self.checkpoints)
            self.write_metadata()
            handler = LogFileHandler(self.logs / "log.txt")
        except OSError as error:
            raise UserError(f"cannot write to --data_dir={data}: {error.strerror}") from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        self._log = handler

    def write_metadata(self, *, only_missing: bool = False) -> None:
        """Write config.yaml to the folders of checkpoints and logs, if `only_missing` only where there is none.

        Raises:
            OSError: if it cannot be written.
        """
        import yaml

        for path in (self.checkpoints / "config.yaml", self.logs / "config.yaml"):
            if not only_missing or not path.exists():
                write_bytes(path, yaml.safe_dump(self.metadata(), sort_keys=False).encode())

    def metadata(self) -> dict[str, Any]:
        """Return all settings, the full environment id, seed, workers, commit, versions and command."""
        flat = self.settings.flat()
        flat |= {"env_id": self.env_id, "seed": self.seed, "uuid": self.name, "num_workers": self._comm.size}
        return flat | {"run_id": self.run_id, "command": " ".join(sys.argv)} | self._metadata | self._info

    def hyper_parameters(self) -> dict[str, bool | float | str]:
        """Return the settings that affect what is learned, without those that have no value."""
        groups = (self.settings.train, self.settings.agent, self.settings.imitation)
        names = {name for group in groups for name in vars(group)} - NO_HYPER_PARAMETERS
        names |= {"seed", "env_kwargs", "num_workers"}
        return {name: value for name, value in self.metadata().items() if name in names and value not in (None, "")}

    def find_differences(self, content: Mapping[str, Any]) -> list[str]:
        """Return the differences from the launch that saved a checkpoint; with any, resuming is not bit-exact."""
        train = self.settings.train  # schedules depend on the length of the run
        length = {"num_timesteps": train.num_timesteps, "num_iters": train.num_iters}
        current = {"workers": self._comm.size, **length, **self._metadata}
        saved = content["config"] | {"workers": len(content["workers"])}
        return [
            f"{name} {value} (was {saved.get(name)})" for name, value in current.items() if value != saved.get(name)
        ]
