"""Optimization of a loss: flat parameters, the optimizer, compilation."""
