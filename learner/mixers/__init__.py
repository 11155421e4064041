"""Value factorisation that several algorithms share: chosen q of each agent, state -> q_tot."""
