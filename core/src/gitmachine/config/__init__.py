"""Configuration by name: the model, its sources and their precedence, and how data becomes the model."""
