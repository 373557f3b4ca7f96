# PYTHON_ARGCOMPLETE_OK  (argcomplete completes only the flags of programs with this mark)
"""Runs a study in one command: a task file × environments × demonstrations × trials × seeds, on tmux or SLURM.

The flags ``--status``, ``--stop`` and ``--resubmit`` use its files in ``data/spawn/<study>/``.
"""

from __future__ import annotations

import os
import sys

KEY_VARIABLE, KEY_FROM_VARIABLE = "WANDB_API_KEY", "-"  # the value of --wandb_api_key that refers to the variable


def hide_key(argv: list[str]) -> None:
    """Replace this process by one without the Weights & Biases key in its arguments, which all users can see."""
    flag = "--wandb_api_key"
    for index, word in enumerate(argv):
        name, equals, key = word.partition("=")
        rest = argv[index + 1 :]
        if not equals and rest and not rest[0].startswith("--"):  # else the next flag, not a key
            key, *rest = rest
        if name == flag and key not in ("", KEY_FROM_VARIABLE):
            os.environ[KEY_VARIABLE] = key
            words = [*argv[:index], f"{flag}={KEY_FROM_VARIABLE}", *rest]
            os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), *words])


if __name__ == "__main__":
    hide_key(sys.argv[1:])  # before the other imports, which take a second

import functools
import signal
from collections.abc import Callable
from typing import Any

from milozero.helpers.files import check_working_directory
from milozero.helpers.import_path import search_repository_last
from milozero.helpers.installation import require_packages

if __name__ in ("__main__", "__mp_main__"):  # also in processes that an environment spawns
    search_repository_last()
if __name__ == "__main__":
    require_packages()  # before they are imported

from milozero.environments import bundles
from milozero.experiment.settings import all_settings_names
from milozero.experiment.watchdog import restore_signals
from milozero.helpers.config import completion
from milozero.helpers.config.flags import build_parser, read_flags
from milozero.helpers.config.params import build
from milozero.helpers.errors import UserError
from milozero.helpers.logging import flush_stdio, log_to_terminal, logger, set_quiet
from milozero.studies.commands import launch_study, resubmit_study, show_status, stop_study
from milozero.studies.config import CALIBERS, FollowConfig, LaunchConfig, OutputConfig, StudyConfig
from milozero.studies.folder import StudyFolder, check_study_name

DESCRIPTION = "Run a study: a task file over the environments of a bundle and over seeds, on tmux or SLURM."
EXAMPLES = (
    "python spawner.py --config tasks/train_mujoco_ppo.yaml --env_bundle mujoco_small --num_seeds 3",
    "python spawner.py --config tasks/train_mujoco_ppo_hps.yaml --prefix search --sweep --num_trials 8",
    "python spawner.py --config tasks/train_mujoco_ppo.yaml --prefix big --deployment slurm --caliber long",
    "python spawner.py --status big",
)
INSTEAD = {  # setting of main.py → what a study has instead
    "expert_path": "write --demo_dir, a folder with a folder of demonstrations for each environment",
    "env_id": "write --env_bundle, a bundle or comma-separated ids",
    "seed": "write --num_seeds",
    "uuid": "write --prefix",
    "resume": "write --resubmit STUDY",
    "task": "all jobs train",
}
GROUPS = {"study": StudyConfig, "launch": LaunchConfig, "a launched study": FollowConfig, "output": OutputConfig}


def build_epilog() -> str:
    """Return the end of the help text: examples, bundles and calibers."""
    calibers = [
        f"{name:16}  {row.time_limit:>10}  {row.cpu_partition}, {row.gpu_partition}" for name, row in CALIBERS.items()
    ]
    return "\n  ".join(
        ["Examples:", *EXAMPLES, "", "Bundles:", *bundles.format_bundles(), "", "Calibers:", *calibers]
    )


def suggest_flag(name: str) -> str:
    """Return how to write a setting of main.py, for an error message; empty if `name` is not one."""
    if name in INSTEAD:
        return f": {INSTEAD[name]}"
    return f": write --set {name}=VALUE, for all jobs" if name in all_settings_names() else ""


def run(flags: dict[str, Any]) -> None:
    """Launch a study, or show, stop or resubmit one.

    Raises:
        UserError: if a flag is invalid or the study cannot be run.
    """
    key = os.environ.pop(KEY_VARIABLE, "")  # removed, because tmux and Slurm would keep it
    if flags.get("wandb_api_key") == KEY_FROM_VARIABLE:
        flags["wandb_api_key"] = key
        if not key:
            raise UserError(f"--wandb_api_key={KEY_FROM_VARIABLE}: the variable {KEY_VARIABLE} is not set")
    study, launch, follow, output = (build(cls, flags, {}) for cls in GROUPS.values())
    if output.quiet:
        set_quiet()
    if "caliber" in flags and launch.deployment != "slurm":
        logger.warning(f"--caliber={launch.caliber} has no effect with --deployment={launch.deployment}")
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY_VARIABLE} is not a valid key: it has characters other than letters and digits")
    commands: dict[str, Callable[[StudyFolder], Any]] = {
        "status": show_status,
        "stop": stop_study,
        "resubmit": functools.partial(resubmit_study, key=key),
    }
    command = next((name for name in commands if name in flags), "")
    if not command:
        launch_study(study, launch, key)
        return
    if unused := sorted(set(flags) - {command, "data_dir", "quiet"}):
        raise UserError(f"--{unused[0]} has no effect with --{command}")
    name = getattr(follow, command)
    check_study_name(name, command)
    commands[command](StudyFolder(study.data_dir, name).require_exists())


def main(argv: list[str]) -> int:
    """Run one command line and return its exit code; may be called repeatedly in one process."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    with restore_signals(*signals), log_to_terminal():
        for number in signals:  # exit by an exception, so that the jobs started so far are written to study.json
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        try:
            check_working_directory()
            run(read_flags(build_parser("spawner.py", DESCRIPTION, build_epilog(), GROUPS), argv, suggest_flag))
        except UserError as error:
            logger.error(str(error))
            return 2
        except KeyboardInterrupt:
            return 130
        return 0


if __name__ == "__main__":
    if completion.VARIABLE in os.environ:
        completion.complete(build_parser("spawner.py", DESCRIPTION, build_epilog(), GROUPS))
    code = main(sys.argv[1:])
    flush_stdio()
    sys.exit(code)
