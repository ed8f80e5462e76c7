"""What stands around any machine."""
