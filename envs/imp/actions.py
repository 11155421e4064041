"""What an agent may do with its component in a step."""

NOTHING, INSPECT, REPAIR = range(3)
NUM_ACTIONS = 3
