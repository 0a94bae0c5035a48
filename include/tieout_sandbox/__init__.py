"""A company in a box: generated business data and real servers for the demo and the tests."""
