"""Networks that are sparse while they are trained (MAST, section 2 and algorithm 1).

    layers -> allocation -> numbers of links -> masks -> topology (moves them) -> accounting

A link is a weight that exists. Masks lie at the parameters: absent weights are zeros in dense
tensors, so that forward and backward passes stay as they are, and the dense gradient, which says
where a link is missed, is had for nothing.
"""
