"""Which recipe to train by: trials within a time budget, judged on training rows alone."""
