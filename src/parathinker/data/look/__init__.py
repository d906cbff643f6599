"""Looking at a dataset: its figures, plots of them, and a page to read examples on."""
