"""A source to a backbone folder: export, precision, graphs that take LoRA, proofs."""
