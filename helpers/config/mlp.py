"""The names of perception stacks; free of torch, so that a command line is checked at once."""

from __future__ import annotations

import re
from itertools import pairwise

from milozero.helpers.errors import UserError

MAX_LAYERS, MAX_WIDTH = 64, 16_384  # two layers that wide are 1 GB, and Adam keeps three more of these


def parse_hidden_sizes(stack: str) -> tuple[int, ...]:
    """Return the widths of a stack's hidden layers.

    ``mlp_100`` is two hidden layers of 100; ``mlp_256_128`` spells them out.

    Raises:
        UserError: where the name is not of that form.
    """
    if not re.fullmatch(r"mlp(_[1-9][0-9]*)+", stack):
        raise UserError(f"'{stack}' is no perception stack; write mlp_100 (two layers of 100) or mlp_256_128")
    widths = stack.split("_")[1:]
    if len(widths) > MAX_LAYERS or max(map(len, widths)) > len(str(MAX_WIDTH)):  # int() refuses endless digits
        raise too_large(stack)
    sizes = tuple(int(width) for width in widths)
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    if max(sizes) > MAX_WIDTH or sum(a * b for a, b in pairwise(sizes)) > MAX_WIDTH**2:
        raise too_large(stack)
    return sizes


def too_large(stack: str) -> UserError:
    """Return the refusal of a stack that no machine can hold, rather than the failure of its memory."""
    return UserError(
        f"'{stack}' is too large; at most {MAX_LAYERS} layers of {MAX_WIDTH}, and {MAX_WIDTH**2} weights between them"
    )
