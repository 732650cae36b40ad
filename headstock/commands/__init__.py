"""The commands, a file a subject. Each imports what it needs when it is called."""
