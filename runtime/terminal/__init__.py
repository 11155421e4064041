"""What lies between a command and the terminal, signals and child processes."""
