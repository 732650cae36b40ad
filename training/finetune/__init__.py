"""Fine-tuning inside a backbone: LoRA in torch, for the graph that serves."""
