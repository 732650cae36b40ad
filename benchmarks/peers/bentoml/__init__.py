"""One BentoML service with a full model a tenant."""
