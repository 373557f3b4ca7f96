"""The names of perception stacks; free of torch, so that a command line is checked at once."""

from __future__ import annotations

from helpers.errors import UserError


def hidden_sizes(stack: str) -> tuple[int, ...]:
    """Return the widths of a stack's hidden layers.

    ``mlp_100`` is two hidden layers of 100; ``mlp_256_128`` spells them out.

    Raises:
        UserError: where the name is not of that form.
    """
    kind, *widths = stack.split("_")
    if kind != "mlp" or not widths or not all(width.isdigit() and int(width) > 0 for width in widths):
        raise UserError(f"'{stack}' is no perception stack; write mlp_100 (two layers of 100) or mlp_256_128")
    sizes = tuple(int(width) for width in widths)
    return sizes * 2 if len(sizes) == 1 else sizes
