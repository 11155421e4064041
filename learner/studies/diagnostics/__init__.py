"""What the SOPS paper looks at beside learning curves: who reaches whom, which edges persist."""
