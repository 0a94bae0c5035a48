"""The generated company: a SaaS business in three legal entities, with planted breaks and their answer key."""
