"""When a campaign stops, and how sure that is: records of iterations, evidence, verdict."""
