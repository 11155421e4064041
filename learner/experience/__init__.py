"""Episodes on their way from agents to a batch: joined, journaled, stored, sampled."""
