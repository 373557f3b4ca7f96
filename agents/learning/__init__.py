"""Optimization of a loss: packed batches, flat parameters, the optimizer, compilation."""
