"""The settings of a run that is resumed, evaluated or imitated."""

import pytest

from milozero.experiment.resume import settings_from_metadata
from milozero.helpers.errors import UserError


@pytest.mark.parametrize("algo", ["sarsa", 7, None, ["ppo"]])
def test_unknown_algorithm_in_a_checkpoint_is_named(algo):
    with pytest.raises(UserError, match=r"^the checkpoint has the unknown algorithm '") as error:
        settings_from_metadata({"algo": algo})
    assert str(algo) in str(error.value)
