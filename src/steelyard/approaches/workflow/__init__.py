"""Workflow: steps over prompts. Rules and checks, guards, routes, parts, votes, own functions, and what runs them."""
