"""What a user types and imports: the command line and the client."""

import backbone  # noqa: F401  # before any library that would report to its maker
