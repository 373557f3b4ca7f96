"""From a loss to an optimizer step: batches, parameters as one vector, the optimizer, compilation."""
