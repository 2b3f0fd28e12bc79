"""When and why a campaign stops: records of finished iterations, statistical evidence, the verdict."""
