"""How a loss reaches the scores of gates that are drawn (`gate.estimator`; SOPS, figure 5c).

straight-through takes the gradient of a smooth stand-in (learner/comm/gates.py) and costs nothing
beside. Each of the others has a file here and is a function

    loss of the algorithm, part, divisors, configuration of the gate -> loss whose gradient has it

that runs the loss several times with gates of its choosing (learner/estimators/draw.py).
"""
