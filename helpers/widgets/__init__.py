"""Widgets for learners: what is in the kernel, as it moves, in the page and as text.

``predict`` asks before a cell that measures. All others are views: each reads its map some times a
second, and what you do in the page happens to the map. See ``helpers.widgets.view``.
"""

from helpers.widgets.bytes import bytes_of
from helpers.widgets.cpus import race
from helpers.widgets.dashboard import dashboard
from helpers.widgets.explorer import explore, explore_lru
from helpers.widgets.flame import flame
from helpers.widgets.predict import Prediction, Reveal, predict
from helpers.widgets.ring import ring
from helpers.widgets.table import table
from helpers.widgets.tail_calls import tail_calls
from helpers.widgets.view import View

__all__ = ["Prediction", "Reveal", "View", "bytes_of", "dashboard", "explore", "explore_lru"]
__all__ += ["flame", "predict", "race", "ring", "table", "tail_calls"]
