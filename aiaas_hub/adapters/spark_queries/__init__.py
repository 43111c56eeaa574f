"""Queries on Spark, each with a process of its own, as DuckDB's are.

engine.py       in the service: whether there is a Spark, and the sessions
worker.py       the process: one query on the datasets that it is given, asked over Spark Connect
server.py       the local Spark of one query: a JVM that the kernel confines
translation.py  DuckDB's SQL as Spark's, and what of it Spark may be asked
"""
