"""Plugins: discovery, the host that loads and blocks them, the registry of providers, the dispatcher of hooks."""
