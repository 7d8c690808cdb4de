"""What broke and what slowed down: counts on the data plane, detectors and incidents on the control plane."""
