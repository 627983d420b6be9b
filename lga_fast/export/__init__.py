"""Edits in formats that other libraries load: merged checkpoints and LoRA adapters."""
