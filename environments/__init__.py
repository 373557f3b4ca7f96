"""Environments by suite: MuJoCo, DeepMind Control, OpenSim, and any environment registered with Gymnasium."""

from milozero.environments.registry import (
    SUITES,
    check_env_id,
    find_suite,
    find_versions,
    get_suite,
    get_versions,
    list_env_ids,
    make_env,
    make_vector_env,
    resolve,
)

__all__ = [
    "SUITES",
    "check_env_id",
    "find_suite",
    "find_versions",
    "get_suite",
    "get_versions",
    "list_env_ids",
    "make_env",
    "make_vector_env",
    "resolve",
]
