"""What an adapter is and where it is kept: file format, heads, registry."""
