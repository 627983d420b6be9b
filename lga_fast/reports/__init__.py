"""Reports: rankings, edits, evaluations and studies, on a terminal, as figures or as a page."""
