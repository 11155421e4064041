"""What stands beside a run of ours, and where it is."""

OURS = "murmuration"
BARE, PIPES, RAY = "bare loop", "pipe star", "ray actors"
MODULES: dict[str, str] = {
    BARE: "tests.benchmarks.bare_loop",
    PIPES: "tests.benchmarks.pipe_star",
    RAY: "tests.benchmarks.ray_actors",
}
"""Where the loops beside ours are."""
