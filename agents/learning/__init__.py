"""From a loss to an optimizer step."""
