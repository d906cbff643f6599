"""Reports of evaluations: a page to open in a browser, the same in Markdown, and figures."""

from parathinker.evaluation.report.writing import Report, write_report

__all__ = ["Report", "write_report"]
