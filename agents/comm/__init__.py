"""What agents say to each other: messages, beacons and the gate."""
