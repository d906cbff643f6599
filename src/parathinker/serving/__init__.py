"""An OpenAI-compatible server over one model, and the page that shows it think."""
