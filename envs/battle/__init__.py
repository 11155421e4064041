"""Battle: two teams on a grid, on MAgent2."""
