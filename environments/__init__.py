"""Environments by suite: MuJoCo, DeepMind Control, OpenSim, and any environment registered with Gymnasium."""

from milozero.environments.registry import (
    check_env,
    check_env_id,
    choose_renderer,
    find_suite,
    get_versions,
    import_module,
    import_module_of,
    make_env,
    make_vector_env,
    resolve,
)

__all__ = [
    "check_env",
    "check_env_id",
    "choose_renderer",
    "find_suite",
    "get_versions",
    "import_module",
    "import_module_of",
    "make_env",
    "make_vector_env",
    "resolve",
]
