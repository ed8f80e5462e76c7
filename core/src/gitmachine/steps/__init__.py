"""The steps of a session: what start, pause, stop and the git verbs do, one module for each group."""
