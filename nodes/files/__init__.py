"""Files: model folders, headers of model files, and the files that nodes read and write."""
