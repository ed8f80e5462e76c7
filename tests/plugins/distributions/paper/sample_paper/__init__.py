"""A good provider: machines for tests, as if they were somebody's service."""
