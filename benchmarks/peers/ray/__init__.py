"""Ray Serve with a full model a tenant, multiplexed."""
