"""What runs inside a Ray run: the driver, the workers and the context `ctx`.

Importing this package imports neither torch nor ray; the modules that need them import them
where they use them.
"""
