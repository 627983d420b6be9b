"""Edits in the forms that other libraries load: merged checkpoints and LoRA adapters."""
