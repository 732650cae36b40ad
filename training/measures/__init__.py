"""How good scores are, with intervals, and what they have to beat."""
