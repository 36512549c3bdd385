"""Images to records in processes of their own: a bounded queue, batches, time limits, and processes replaced when they fall.

Nothing here knows of HTTP or of the database.
"""
