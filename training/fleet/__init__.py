"""Many trainings at once: a manifest of jobs, features computed together, heads in parallel."""
