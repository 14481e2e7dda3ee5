"""The object store backend: repositories on S3, Google Cloud Storage and Azure, through obstore."""
