"""The kill test: runs that are killed, starved of disk, damaged and trained twice at once must end alike.

``python -m tests.crash`` trains each subject once undisturbed. Then it attacks runs of it at random moments,
lets them go on until they end, and compares them bit for bit with the undisturbed one.
"""
