"""From named sources to questions, and to the reasoning that some sources hold already.

A source is one of :data:`~parathinker.data.sources.layouts.NICKNAMES`, a file (.jsonl, .json, .csv,
.parquet), a folder laid out as on the hub, a hub id, or ``reasoning-gym:TASK``.
"""

from parathinker.data.sources.gather import Gathered, gather
from parathinker.data.sources.layouts import LAYOUTS, NICKNAMES, Layout
from parathinker.data.sources.reading import SourceOptions, Tally, read_samples, read_source
from parathinker.data.sources.teacher_text import TeacherText, split_reasoning

__all__ = [
    "LAYOUTS",
    "NICKNAMES",
    "Gathered",
    "Layout",
    "SourceOptions",
    "Tally",
    "TeacherText",
    "gather",
    "read_samples",
    "read_source",
    "split_reasoning",
]
