"""AdversarialPursuit: predators tag prey on a grid, on MAgent2."""
