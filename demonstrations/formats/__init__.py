"""File formats of demonstrations, one module each."""
