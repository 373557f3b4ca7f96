"""Musculoskeletal models of OpenSim (https://opensim.stanford.edu) as Gymnasium environments."""
