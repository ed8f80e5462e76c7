"""Looking after what sessions left: recovery after a crash, garbage, rescues, caches."""

from gitmachine.steps.recovery import Recovery
from gitmachine.steps.remains import is_orphan
from gitmachine.upkeep.caches import CacheEntry, CacheUsage, Pruned, cache_usage, prune_cache
from gitmachine.upkeep.garbage import Collected, collect_garbage
from gitmachine.upkeep.recoveries import recover, recover_all
from gitmachine.upkeep.rescues import (
    Published,
    RescueDetails,
    SavedWork,
    drop_rescue,
    push_rescue,
    rescues,
    show_rescue,
)
from gitmachine.upkeep.snapshots import SavedDisk, delete_snapshot, snapshots, snapshots_of
from gitmachine.upkeep.withholding import Restored, WithheldWork, drop_withheld, restore_withheld, withheld

__all__ = [
    "CacheEntry",
    "CacheUsage",
    "Collected",
    "Pruned",
    "Published",
    "Recovery",
    "RescueDetails",
    "Restored",
    "SavedDisk",
    "SavedWork",
    "WithheldWork",
    "cache_usage",
    "collect_garbage",
    "delete_snapshot",
    "drop_rescue",
    "drop_withheld",
    "is_orphan",
    "prune_cache",
    "push_rescue",
    "recover",
    "recover_all",
    "rescues",
    "restore_withheld",
    "show_rescue",
    "snapshots",
    "snapshots_of",
    "withheld",
]
