"""Named sets of environments for studies."""

from __future__ import annotations

_DMC_EASY = (
    "dmc:ball_in_cup-catch dmc:cartpole-balance dmc:cartpole-balance_sparse dmc:cartpole-swingup dmc:finger-spin "
    "dmc:hopper-stand dmc:pendulum-swingup dmc:walker-stand dmc:walker-walk"
)
_DMC_MEDIUM = (
    "dmc:acrobot-swingup dmc:cartpole-swingup_sparse dmc:cheetah-run dmc:finger-turn_easy dmc:finger-turn_hard "
    "dmc:hopper-hop dmc:quadruped-run dmc:quadruped-walk dmc:reacher-easy dmc:reacher-hard dmc:walker-run"
)
_DMC_HARD = (
    "dmc:dog-run dmc:dog-stand dmc:dog-trot dmc:dog-walk dmc:humanoid-run dmc:humanoid-stand dmc:humanoid-walk"
)

# name, purpose, full ids separated by spaces
_TABLE = (
    ("debug", "smoke test on two fast tasks", "InvertedPendulum-v5 Hopper-v5"),
    (
        "classic",
        "classic control, trains in seconds",
        "Acrobot-v1 CartPole-v1 MountainCar-v0 MountainCarContinuous-v0 Pendulum-v1",
    ),
    ("mujoco_small", "three locomotion tasks that train fast", "HalfCheetah-v5 Hopper-v5 Walker2d-v5"),
    (
        "mujoco_suite",
        "Gymnasium's MuJoCo tasks except the humanoids",
        "Ant-v5 HalfCheetah-v5 Hopper-v5 InvertedDoublePendulum-v5 InvertedPendulum-v5 Pusher-v5 Reacher-v5 "
        "Swimmer-v5 Walker2d-v5",
    ),
    (
        "mujoco_v3",
        "the versions most imitation papers use",
        "Ant-v3 HalfCheetah-v3 Hopper-v3 Humanoid-v3 Walker2d-v3",
    ),
    ("humanoid", "Gymnasium's humanoids", "Humanoid-v5 HumanoidStandup-v5"),
    ("dmc_easy", "DeepMind Control, easy (Yarats et al. 2021)", _DMC_EASY),
    ("dmc_medium", "DeepMind Control, medium (Yarats et al. 2021)", _DMC_MEDIUM),
    ("dmc_hard", "DeepMind Control, hard: humanoids and dogs", _DMC_HARD),
    ("dmc_suite", "DeepMind Control, easy, medium and hard", f"{_DMC_EASY} {_DMC_MEDIUM} {_DMC_HARD}"),
    (
        "opensim",
        "all musculoskeletal tasks",
        "OsimArm2D-v0 OsimL2Run-v0 OsimProsthetics-v0 OsimProsthetics-v1 OsimWalkAround-v0 OsimWalkAround2D-v0",
    ),
    ("opensim_small", "the two musculoskeletal tasks that train in minutes", "OsimArm2D-v0 OsimL2Run-v0"),
)

# name → (purpose, full ids)
BUNDLES = {name: (purpose, tuple(env_ids.split())) for name, purpose, env_ids in _TABLE}


def format_bundles() -> list[str]:
    """Return one line per bundle: its name, purpose and environments."""
    width = max(map(len, BUNDLES))
    return [f"{name:{width}}  {purpose}: {', '.join(env_ids)}" for name, (purpose, env_ids) in BUNDLES.items()]
