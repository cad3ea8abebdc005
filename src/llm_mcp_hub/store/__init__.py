"""Shared state: what outlives an ask, and what hubs on one machine or behind one balancer agree on."""
