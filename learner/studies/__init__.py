"""Studies and sweeps: trainings that are compared, their tables, curves and figures."""
