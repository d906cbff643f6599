"""Sampling a teacher's paths: from OpenAI-compatible endpoints, or from a model of our own.

Questions go one way: ``job.py`` asks the store what is missing, a teacher (``asking.py``) thinks
about it, over HTTP (``endpoints.py``) or in this process (``engine.py``), and yields what arrives,
``job.py`` commits it. A job that was killed therefore just runs again.
"""
