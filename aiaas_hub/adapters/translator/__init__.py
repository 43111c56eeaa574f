"""Other protocols than Triton's, before it: a translator in a process of its own."""
