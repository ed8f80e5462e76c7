"""GitMachine's policy plugin: commands that match a pattern are refused before they run."""

from gitmachine_policy.patterns import Refusal, refusal

__all__ = ["Refusal", "refusal"]
