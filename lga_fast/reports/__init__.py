"""Reports: what a selection or an edit found, on a terminal, as a figure or as a file."""
