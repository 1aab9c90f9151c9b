"""Who is compared: each peer is one module that says how it is found and how it is configured for this job."""
