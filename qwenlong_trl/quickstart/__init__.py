"""The quickstart: a tiny reader learns to read long card indexes on two CPU cores; a report shows what it learned."""
