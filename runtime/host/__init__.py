"""One host of a run: starts and watches its agents, relays parameters, answers Prometheus."""
