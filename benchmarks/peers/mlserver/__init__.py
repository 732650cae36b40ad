"""MLServer with a full model a tenant."""
