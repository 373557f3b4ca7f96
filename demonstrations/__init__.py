"""Demonstrations: what experts did, read from files of several formats."""
