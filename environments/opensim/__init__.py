"""Musculoskeletal OpenSim models (https://opensim.stanford.edu) as Gymnasium environments."""
