"""What keeps the project itself in order."""
