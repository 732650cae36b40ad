"""LoRA that PEFT wrote, read without PEFT and without pickles: for a backbone, with its head."""
