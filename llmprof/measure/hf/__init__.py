"""transformers as a witness: its own class of a config, built on meta and run there. Imports torch and transformers.

Nothing is downloaded: where this is imported first, the library is told to stay offline and to use no kernels of its
hub, which would also hide products from the counter.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("USE_HUB_KERNELS", "NO")
