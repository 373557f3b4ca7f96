"""Environments by suite: MuJoCo, DeepMind Control, OpenSim, and everything that is registered with Gymnasium."""

from milozero.environments.registry import (
    SUITES,
    check_name,
    get_suite,
    ids,
    installed,
    make_env,
    make_vector_env,
    resolve,
    suite_for,
    versions,
)

__all__ = [
    "SUITES",
    "check_name",
    "get_suite",
    "ids",
    "installed",
    "make_env",
    "make_vector_env",
    "resolve",
    "suite_for",
    "versions",
]
