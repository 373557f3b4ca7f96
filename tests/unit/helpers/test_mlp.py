"""Hidden sizes parsed from names such as mlp_256_128."""

import pytest

from milozero.helpers.config.mlp import MAX_LAYERS, MAX_WIDTH, parse_hidden_sizes
from milozero.helpers.errors import UserError


@pytest.mark.parametrize(
    ("stack", "sizes"),
    [
        ("mlp_100", (100, 100)),
        ("mlp_256_128", (256, 128)),
        ("mlp_7_6_5", (7, 6, 5)),
        ("mlp" + "_1" * 64, (1,) * 64),
        ("mlp_16384", (16384, 16384)),
        ("mlp_16384_16384", (16384, 16384)),
    ],
)
def test_one_width_gives_two_layers_and_several_give_one_each(stack, sizes):
    assert parse_hidden_sizes(stack) == sizes


@pytest.mark.parametrize(
    "stack", ["mlp" + "_1" * 65, "mlp_16385_1", "mlp_1_16385", "mlp_16384_16384_1", "mlp_100000"]
)
def test_too_large_stack_is_refused(stack):
    with pytest.raises(UserError, match=f"at most {MAX_LAYERS} layers of {MAX_WIDTH}, and {MAX_WIDTH**2} weights"):
        parse_hidden_sizes(stack)


@pytest.mark.parametrize("stack", ["mlp", "mlp_", "mlp_0", "mlp_-1", "mlp_01", "cnn_64", "mlp_64_", "64", "mlp_64 "])
def test_other_names_are_refused(stack):
    with pytest.raises(UserError, match="write mlp_100"):
        parse_hidden_sizes(stack)
