"""What every suite shares: a cluster of separate processes, signers, raw HTTP, made data.

Talks to the product over its command line and over HTTP only; imports nothing of it.
"""
