"""``python -m parathinker`` is the ``parathinker`` command."""

import sys

from parathinker.cli import main

sys.exit(main())
