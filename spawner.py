"""A study in one command: a task file × the environments of a bundle × seeds → one job file each.

The line to follow: parse → jobs, each held against main.py's own settings → files.
"""

from __future__ import annotations

import logging
import sys

from environments import bundles
from helpers import study as studies
from helpers.config import build, build_parser, read_flags
from helpers.errors import UserError
from helpers.say import say, tell
from helpers.study import StudyConfig

DESCRIPTION = "Write the job files of a study: a task file over the environments of a bundle and over seeds."


def epilog() -> str:
    """Return what follows the flags in ``-h``."""
    example = "python spawner.py --config tasks/train_mujoco_ppo.yaml --env_bundle mujoco_small --num_seeds 3"
    return "\n  ".join(["Example:", example, "", "Bundles:", *bundles.lines()])


def main(argv: list[str]) -> int:
    """Write the jobs of a study; return the exit code: 0 done, 2 for what the user can put right."""
    logging.basicConfig(handlers=[logging.NullHandler()])
    logging.captureWarnings(True)
    try:
        flags = read_flags(build_parser("spawner.py", DESCRIPTION, epilog(), {"study": StudyConfig}), argv)
        study = build(StudyConfig, flags, {})
        studies.check(study)
        jobs = studies.jobs_of(study)
        folder = studies.write(study, jobs)
    except UserError as error:
        tell(f"error: {error}")
        return 2
    say(f"study {study.prefix}: {len(jobs)} jobs of {study.num_workers} workers, not started")
    for job in jobs:
        say(f"bash {folder}/{job.name}.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
