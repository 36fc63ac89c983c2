"""YAML with positions: every problem at once, as file:line:col and a suggestion."""
