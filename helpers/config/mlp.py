"""Parse names of perception stacks, e.g. ``mlp_100``; without torch, which is slow to import."""

from __future__ import annotations

import re
from itertools import pairwise

from milozero.helpers.errors import UserError

MAX_LAYERS, MAX_WIDTH = 64, 16_384  # two layers of this width take 1 GB, and Adam three times more


def parse_hidden_sizes(stack: str) -> tuple[int, ...]:
    """Return the widths of a stack's hidden layers.

    ``mlp_100`` has two hidden layers of 100 units, ``mlp_256_128`` one of 256 and one of 128.

    Raises:
        UserError: if the name has another form, or the network is too large.
    """
    if not re.fullmatch(r"mlp(_[1-9][0-9]*)+", stack):
        raise UserError(f"'{stack}' is not a perception stack; write mlp_100 (two layers of 100) or mlp_256_128")
    sizes = tuple(int(width) for width in stack.split("_")[1:])
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    weights = sum(a * b for a, b in pairwise(sizes))
    if len(sizes) > MAX_LAYERS or max(sizes) > MAX_WIDTH or weights > MAX_WIDTH**2:
        limits = f"{MAX_LAYERS} layers of {MAX_WIDTH}, and {MAX_WIDTH**2} weights between them"
        raise UserError(f"'{stack}' is too large; at most {limits}")
    return sizes
