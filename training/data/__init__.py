"""A user's file to rows of a task: cells, texts with their answers, splits."""
