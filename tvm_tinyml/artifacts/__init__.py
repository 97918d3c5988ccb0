"""What a build hands over: header, archive, metadata, report, and the folder that holds them."""
