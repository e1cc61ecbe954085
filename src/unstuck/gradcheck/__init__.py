"""Gradient check: is a backward pass right, and if not, which mistake is in it?"""
