"""Queries on DuckDB, each in a process of its own that can be killed.

engine.py       in the service: starts the process, talks to it, and ends it
worker.py       the process: one query on the datasets that it is given
statement.py    what a statement may be, told from its syntax tree
confinement.py  what the process may do, told to the kernel
"""
