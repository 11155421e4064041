"""What knows Ray: a cluster that is there already places the nodes of a run, or trainings."""
