"""The only wrapper of toxiproxy-python, and faults on links as its toxics."""
