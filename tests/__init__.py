import backbone  # noqa: F401  # before any library that would report to its maker
