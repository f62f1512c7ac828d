"""What stands in the headers of weight files: names, dtypes and shapes. The data behind a header is never read."""
