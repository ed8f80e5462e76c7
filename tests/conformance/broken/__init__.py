"""Deliberately broken machines, one for each behaviour of the kit."""
