"""Messages, beacons and gates of a whole batch of episodes, in torch."""
