"""What is measured: each module is one section, `run(arena, peers, options, notebook)`."""
