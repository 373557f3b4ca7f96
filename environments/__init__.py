"""Environments by suite: MuJoCo, DeepMind Control, OpenSim, and everything that is registered with Gymnasium."""

from milozero.environments.registry import (
    FAMILIES,
    check_name,
    family,
    family_of,
    ids,
    installed,
    make_env,
    make_vector_env,
    resolve,
    versions,
)

__all__ = [
    "FAMILIES",
    "check_name",
    "family",
    "family_of",
    "ids",
    "installed",
    "make_env",
    "make_vector_env",
    "resolve",
    "versions",
]
