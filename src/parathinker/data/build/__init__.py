"""From a teacher's samples to a dataset: checked, chosen, cleared of benchmarks, summed up.

:func:`parathinker.data.build.pipeline.build` does all of it.
"""
