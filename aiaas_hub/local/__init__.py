"""The platform of one machine: `aiaas up`, `demo` and `doctor`, and what they need."""
