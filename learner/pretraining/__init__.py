"""Training of what agents say to each other before there is a policy (learner/pretrain.py)."""
