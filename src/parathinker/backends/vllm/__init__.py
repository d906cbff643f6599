"""Native parallel thinking on stock vLLM: a model, a KV connector and a sampler, all plugged in.

``loading.py`` starts vLLM; ``engine.py`` and ``course.py`` turn one question into vLLM's requests,
on the asker's side; ``connector.py`` with ``sharing.py`` (scheduler) and ``copies.py`` (workers)
lets the summary read the paths' keys and values where they lie; ``models.py`` is the model,
``sampling.py`` the sampler; ``layout.py`` the arithmetic that both sides share.
"""
