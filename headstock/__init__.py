"""What a user types and imports: the command line and the client."""
