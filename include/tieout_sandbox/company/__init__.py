"""The generated company: a SaaS business in three legal entities, with planted breaks and their answer key."""

from tieout_sandbox.company.generate import generate
from tieout_sandbox.company.model import Company

__all__ = ["Company", "generate"]
