"""The stream processors: rounds, recommendations and anomalies, one folder a feature."""
