"""Every request edited at every layer, and what the results say of the layers."""
