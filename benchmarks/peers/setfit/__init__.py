"""SetFit, which tunes a whole encoder on pairs of rows: trained beside `headstock train`."""
