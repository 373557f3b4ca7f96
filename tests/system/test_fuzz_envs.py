"""Any combination of oddities is trained, evaluated and recorded, or refused in one line before training."""

import shutil
from datetime import timedelta

from gymnasium import spaces
from hypothesis import Phase, given
from hypothesis import strategies as st

from tests.support.fuzzing import fuzz, is_one_line
from tests.support.odd_env_strategy import ODDITIES
from tests.support.odd_envs import FAULTY_LATER, GOOD_PICTURES, Odd, register_odd
from tests.support.programs import call_main

SMALL = ("--rollout_len=16", "--batch_size=8", "--epochs=1", "--no-compile", "--num_iters=2")
EVALUATIONS = ("--eval_episodes=1", "--eval_frequency=1", "--eval_max_steps=20")
TRAIN = ("--task=train", "--env_id=Odd-v0", "--uuid=run", *SMALL, *EVALUATIONS)
EVAL = ("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=1", "--save_traj", "--record")


def call(folder, *words):
    """Run main.py; check that its messages are single lines, and that all environments and children are closed."""
    result = call_main(folder, *words)
    assert "Traceback" not in result.stderr, result.stderr
    for line in result.stderr.splitlines():
        assert line.startswith(("warning: ", "error: ")), result.stderr
        assert is_one_line(line)
    assert Odd.num_open == 0, result
    return result


def has_usual_spaces(oddity):
    observation, action = oddity.observation_space, oddity.action_space
    is_vector = isinstance(observation, spaces.Box) and len(observation.shape) == 1 and observation.shape[0] > 0
    if isinstance(action, spaces.Box):
        return is_vector and len(action.shape) == 1 and action.shape[0] > 0
    return is_vector and isinstance(action, spaces.Discrete)


# Without shrinking, which repeats a slow test hundreds of times.
@fuzz(20, deadline=timedelta(seconds=60), phases=[Phase.generate])
@given(oddity=ODDITIES, num_envs=st.sampled_from([1, 2]))
def test_fuzz_odd_environments(tmp_path_factory, oddity, num_envs):
    folder = tmp_path_factory.mktemp("odd")
    with register_odd(oddity):
        result = call(folder, *TRAIN, f"--num_envs={num_envs}")
        if result.returncode:
            assert result.returncode == 2, result.stderr
            assert result.stderr.splitlines()[-1].startswith("error: ")
            assert not (folder / "data").exists()
            assert oddity.is_refused or not has_usual_spaces(oddity) or (oddity.is_single and num_envs > 1), result
            return
        assert not oddity.is_refused
        result = call(folder, *EVAL)
    videos = list(folder.rglob("*.mp4"))
    if oddity.picture in GOOD_PICTURES:
        assert (result.returncode, len(videos)) == (0, 1), result.stderr
    elif oddity.picture not in FAULTY_LATER:
        assert (result.returncode, videos) == (2, []), result
    else:
        assert (result.returncode, videos) in ((1, []), (2, [])), result
    shutil.rmtree(folder)
