"""One host of a run: starts and watches its agents, shares parameters, answers Prometheus."""
