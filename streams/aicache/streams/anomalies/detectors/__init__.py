"""Detectors with River's interface, a file an algorithm."""
