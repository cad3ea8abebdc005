"""What the hub writes about itself."""
