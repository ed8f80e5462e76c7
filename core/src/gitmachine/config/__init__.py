"""Configuration by name: the model, its sources and their precedence, and how data becomes the model.

`model` is what can be configured, `load` gathers it from file, environment and arguments, `structure` turns data into
attrs classes, `machines` chooses a provider with its options, `schema` describes it all as JSON Schema.
"""
