"""The daemon inside an emulated sandbox: Connect services for processes and files, and plain HTTP for file contents."""
