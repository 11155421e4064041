"""What crosses between processes, and the sockets, keys and counters it crosses with."""
