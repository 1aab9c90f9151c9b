"""How a grant is obtained: client credentials, session login; and what needs none: static tokens, Basic."""
