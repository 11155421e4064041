"""An agent as an operating-system process: sockets, timers and signals."""
