"""What is known of each algorithm without torch: traits, and options of its own."""
