"""Where random bytes come from is the caller's business.

`os.urandom` is a `ByteSource`, and so is a counter-mode expansion of a seed in a test vector.
"""

from collections.abc import Callable
from typing import TypeAlias

ByteSource: TypeAlias = Callable[[int], bytes]
"""Returns as many fresh, unpredictable bytes as it is asked for."""
