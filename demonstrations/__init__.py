"""Expert demonstrations, read from files of several formats."""
